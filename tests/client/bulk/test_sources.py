"""Every kind of source gives one row for each image, in a stable order."""

import io
import tarfile
import time
import zipfile

import fsspec
import pytest
from fsspec.implementations.local import LocalFileSystem
from resnet_client import RequestError
from resnet_client.cli.exit_codes import ExitCode

from .conftest import write_parquet, write_tar

NUMBERS = list(range(1, 26))


@pytest.fixture
def everywhere(folder, tmp_path):
    """The same 25 images in a folder, archives, Parquet, and the same behind URLs."""
    write_tar(tmp_path / "a.tar", NUMBERS)
    for suffix, mode in (("tar.gz", "w:gz"), ("tgz", "w:gz"), ("tar.xz", "w:xz")):
        write_tar(tmp_path / f"a.{suffix}", NUMBERS, mode)
    for shard in range(5):
        write_tar(tmp_path / f"shard-{shard:03d}.tar", NUMBERS[shard * 5 : shard * 5 + 5])
    write_parquet(tmp_path / "a.parquet", [bytes([number]) for number in NUMBERS], row_group_size=7)
    bucket = fsspec.filesystem("memory")
    for number in NUMBERS:
        bucket.pipe_file(f"/bucket/images/{number:02d}.jpg", bytes([number]))
    for name in ("a.tar", "a.parquet"):
        bucket.pipe_file(f"/bucket/{name}", (tmp_path / name).read_bytes())


@pytest.mark.parametrize(
    ("source", "first", "last"),
    [
        ("images", "images/01.jpg", "images/below/25.jpg"),
        *((name, f"{name}/0001.jpg", f"{name}/0025.jpg") for name in ("a.tar", "a.tar.gz", "a.tgz", "a.tar.xz")),
        ("shard-{000..004}.tar", "shard-000.tar/0001.jpg", "shard-004.tar/0025.jpg"),  # as WebDataset has it
        ("a.parquet", "a.parquet#0", "a.parquet#24"),  # the only column of bytes is found
        ("memory://bucket/images", "memory:///bucket/images/01.jpg", "memory:///bucket/images/25.jpg"),
        ("memory://bucket/a.tar", "memory:///bucket/a.tar/0001.jpg", "memory:///bucket/a.tar/0025.jpg"),
        ("memory://bucket/a.parquet", "memory:///bucket/a.parquet#0", "memory:///bucket/a.parquet#24"),
    ],
)
@pytest.mark.usefixtures("everywhere")
def test_sources_give_a_row_for_each_image(bulk, source, first, last):
    """In a stable order; names begin as the source does, and what is not an image is left out."""
    rows = bulk(source, "--part-size", 4)
    assert rows["index"].to_pylist() == NUMBERS
    assert (rows["image"][0].as_py(), rows["image"][-1].as_py()) == (first, last)


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("images/1*.jpg", [f"images/1{number}.jpg" for number in range(10)]),
        ("images/**/*5.jpg", ["images/05.jpg", "images/15.jpg", "images/below/25.jpg"]),
        ("memory://bucket/images/2*.jpg", [f"memory:///bucket/images/2{number}.jpg" for number in range(6)]),
        ("{folder}/03.jpg", ["{folder}/03.jpg"]),  # absolute names stay so
    ],
)
@pytest.mark.usefixtures("everywhere")
def test_sources_may_be_patterns(bulk, folder, pattern, expected):
    rows = bulk(pattern.format(folder=folder) if "folder" in pattern else pattern)
    assert rows["image"].to_pylist() == [name.format(folder=folder) for name in expected]


@pytest.mark.parametrize("source", ["odd", "odd/137", "odd/**", "**/137/*", "odd/*/**", "odd/137/*"])
def test_sources_that_are_not_files_have_a_row_each(bulk, odd_files, source):
    """A pattern does not follow links in circles; folders below it that cannot be listed are not left out."""
    if source == "odd/137/*":
        odd_files = {path: message for path, message in odd_files.items() if path.endswith(".png")}
    rows = bulk(source, code=ExitCode.SOME_FAILED).to_pylist()
    assert {row["image"]: row["error"] for row in rows if row["error"]} == odd_files
    assert [row["image"] for row in rows if row["error"] is None] == ["odd/137/image.png"]
    assert len(rows) == len(odd_files) + 1


def test_sources_may_be_parquet_files_of_hugging_face(bulk, tmp_path):
    """A structure of bytes and path; either may be missing."""
    (tmp_path / "2.jpg").write_bytes(b"\2")
    cells = [{"bytes": b"\1", "path": None}, {"bytes": None, "path": str(tmp_path / "2.jpg")}, None]
    rows = bulk(write_parquet(tmp_path / "in.parquet", cells), code=ExitCode.SOME_FAILED)
    assert rows["index"].to_pylist() == [1, 2, None]
    assert rows["error"].to_pylist() == [None, None, "there is no image in this row"]


def test_sources_need_the_name_of_an_ambiguous_column(bulk, tmp_path, capsys):
    """The message lists the columns; a column of text is a list of files."""
    write_parquet(tmp_path / "in.parquet", [str(tmp_path / "1.jpg")])
    assert bulk("in.parquet", code=ExitCode.USAGE) is None
    assert "--column to the column of images, one of id, image" in capsys.readouterr().err
    (tmp_path / "1.jpg").write_bytes(b"\1")
    assert bulk("in.parquet", "--column", "image", output="out.parquet")["index"].to_pylist() == [1]


class SlowFile(io.FileIO):
    """Leaves other threads time to read, too."""

    def read(self, size=-1):
        """Read after a pause."""
        time.sleep(0.001)
        return super().read(size)


class SlowFileSystem(LocalFileSystem):
    """Local files behind URLs, as slow as a network."""

    protocol = "slow"

    def _open(self, path, **_):
        return SlowFile(path)


@pytest.mark.parametrize("protocol", ["zip", "tar"])
def test_sources_may_be_chained_urls(bulk, tmp_path, stub, protocol):
    """Images in an archive that is not unpacked; each is whole, though many threads send images of the one file."""
    fsspec.register_implementation("slow", SlowFileSystem, clobber=True)
    mixed = RequestError("mixed with another image")
    stub.fail = lambda _, content: mixed if len(set(content)) > 1 or len(content) != 10_000 else None
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as zip_file, tarfile.open(tmp_path / "a.tar", "w") as tar_file:
        for number in range(40):
            image = tmp_path / f"{number:02d}.jpg"
            image.write_bytes(bytes([number]) * 10_000)
            zip_file.write(image, image.name)
            tar_file.add(image, image.name)
    archive = f"slow://{tmp_path}/a.{protocol}"
    rows = bulk(f"{protocol}://*.jpg::{archive}")
    assert rows["index"].to_pylist() == list(range(40))
    assert rows["image"][0].as_py() == f"{protocol}://00.jpg::{archive}"


def test_sources_may_overlap(bulk, folder):
    """No image comes twice."""
    rows = bulk("images/02.jpg", "images", "images/below/*.jpg", folder)
    assert sorted(rows["index"].to_pylist()) == NUMBERS


@pytest.mark.parametrize(
    "source", ["nowhere", "nowhere.jpg", "nowhere*.jpg", "notes.txt", "s4://bucket/images", "nowhere.tar", "in.parquet"]
)
def test_sources_that_are_invalid_end_the_run(bulk, source, tmp_path, capsys):
    """One message that names it, and no output."""
    (tmp_path / "notes.txt").write_text("not an image")
    (tmp_path / "in.parquet").write_bytes(b"not Parquet")
    bulk(source, code=ExitCode.USAGE)
    message = capsys.readouterr().err
    assert source in message
    assert message.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.parquet", "notes.txt"]


def test_sources_retry_errors_of_file_systems(bulk, folder, monkeypatch):
    """HTTP's errors in fsspec are not OSErrors; the file is read again, and then its row has the error."""
    reads = []

    class FlakyFileSystem(LocalFileSystem):
        protocol = "flaky"

        def cat_file(self, path, **options):
            reads.append(path[-6:])
            if path.endswith("07.jpg") or reads.count(path[-6:]) < 3:
                raise RuntimeError("503, message='Service Unavailable'")
            return super().cat_file(path, **options)

    fsspec.register_implementation("flaky", FlakyFileSystem, clobber=True)
    monkeypatch.setattr("time.sleep", lambda _: None)
    urls = [f"flaky://{folder}/{name}" for name in ("07.jpg", "08.jpg")]
    errors = bulk(*urls, code=ExitCode.SOME_FAILED)["error"].to_pylist()
    assert "503" in errors[0]
    assert errors[1] is None
    assert sorted(reads) == ["07.jpg"] * 3 + ["08.jpg"] * 3
