"""Every kind of source gives one row for each image, in a stable order."""

import io
import os
import tarfile
import time
import zipfile

import fsspec
import grpc
import pytest
from fsspec.implementations.local import LocalFileSystem
from resnet_client.cli.exit_codes import ExitCode

from .conftest import write_parquet, write_tar

NUMBERS = list(range(1, 26))


def test_folder_is_searched(bulk, folder):
    """Images are known by their suffix, folders below are included; names begin as the source does."""
    rows = bulk("images", "--part-size", 10)
    assert rows["index"].to_pylist() == NUMBERS
    assert rows["photo"][0].as_py() == "images/01.jpg"
    assert rows["photo"][-1].as_py() == "images/below/25.jpg"


@pytest.mark.parametrize("source", ["images", "images/*.png", "shard.tar"])
def test_names_that_are_not_utf8_are_escaped(bulk, tmp_path, source):
    """As `classify` does it; the image is found by its own name."""
    image = tmp_path / "images" / os.fsdecode(b"caf\xe9.png")
    image.parent.mkdir()
    image.write_bytes(b"\7")
    with tarfile.open(tmp_path / "shard.tar", "w") as archive:
        archive.add(image, f"images/{image.name}")
    (row,) = bulk(source).to_pylist()
    assert (row["photo"].removeprefix("shard.tar/"), row["index"]) == (r"images/caf\udce9.png", 7)


def test_source_may_have_a_name_that_is_not_utf8(bulk, tmp_path):
    """The settings of the run hold it, so that a second start recognises it."""
    name = os.fsdecode(b"caf\xe9.png")
    (tmp_path / name).write_bytes(b"\7")
    assert bulk(name).equals(bulk(name))


def test_local_names_may_hold_double_colons(bulk, tmp_path):
    """They separate file systems in URLs only."""
    (tmp_path / "images").mkdir()
    (tmp_path / "images/a::b.jpg").write_bytes(b"\7")
    assert bulk("images")["photo"].to_pylist() == ["images/a::b.jpg"]
    assert bulk("images/a::b.jpg", output="one.parquet")["index"].to_pylist() == [7]


def test_pattern_matches_files(bulk, folder):
    """What the shell would do, for a pattern in quotes."""
    rows = bulk("images/1*.jpg")
    assert rows["photo"].to_pylist() == [f"images/1{number}.jpg" for number in range(10)]
    rows = bulk("images/**/*5.jpg", output="below.parquet")
    assert rows["photo"].to_pylist() == ["images/05.jpg", "images/15.jpg", "images/below/25.jpg"]


def test_absolute_path_stays_absolute(bulk, folder):
    """So that rows can be found by the names that the caller uses."""
    assert bulk(folder / "03.jpg")["photo"].to_pylist() == [str(folder / "03.jpg")]


@pytest.mark.parametrize(
    ("name", "mode"), [("a.tar", "w"), ("a.tar.gz", "w:gz"), ("a.tgz", "w:gz"), ("a.tar.xz", "w:xz")]
)
def test_images_of_a_tar_archive(bulk, tmp_path, name, mode):
    """Named after archive and member; other members are ignored."""
    write_tar(tmp_path / name, NUMBERS, mode)
    rows = bulk(name, "--part-size", 10)
    assert rows["index"].to_pylist() == NUMBERS
    assert rows["photo"][0].as_py() == f"{name}/0001.jpg"


def test_range_of_archives(bulk, tmp_path):
    """``{000..002}`` is expanded, as WebDataset has it."""
    for shard in range(3):
        write_tar(tmp_path / f"shard-{shard:03d}.tar", range(shard * 4 + 1, shard * 4 + 5))
    rows = bulk("shard-{000..002}.tar", "--part-size", 4)
    assert rows["index"].to_pylist() == list(range(1, 13))


def test_column_of_a_parquet_file(bulk, tmp_path):
    """The only column of bytes is found; names give the row."""
    write_parquet(tmp_path / "in.parquet", [bytes([number]) for number in NUMBERS], row_group_size=7)
    rows = bulk("in.parquet", "--part-size", 5)
    assert rows["index"].to_pylist() == NUMBERS
    assert rows["photo"].to_pylist() == [f"in.parquet#{row}" for row in range(25)]


def test_parquet_file_of_hugging_face(bulk, tmp_path):
    """A structure of bytes and path; either may be missing."""
    (tmp_path / "2.jpg").write_bytes(b"\2")
    cells = [{"bytes": b"\1", "path": None}, {"bytes": None, "path": str(tmp_path / "2.jpg")}, None]
    rows = bulk(write_parquet(tmp_path / "in.parquet", cells), code=ExitCode.SOME_FAILED)
    assert rows["index"].to_pylist() == [1, 2, None]
    assert rows["error"].to_pylist() == [None, None, "there is no image in this row"]


def test_column_must_be_named_if_it_is_ambiguous(bulk, tmp_path, capsys):
    """The message lists the columns; a column of text is a list of files."""
    write_parquet(tmp_path / "in.parquet", [str(tmp_path / "1.jpg")])
    assert bulk("in.parquet", code=ExitCode.USAGE) is None
    assert "--column, one of id, image" in capsys.readouterr().err
    (tmp_path / "1.jpg").write_bytes(b"\1")
    assert bulk("in.parquet", "--column", "image", output="out.parquet")["index"].to_pylist() == [1]


def test_urls_are_read_through_fsspec(bulk):
    """A bucket with images and an archive; rows are named by URLs."""
    bucket = fsspec.filesystem("memory")
    for number in NUMBERS:
        bucket.pipe_file(f"/bucket/images/{number:02d}.jpg", bytes([number]))
    rows = bulk("memory://bucket/images", "--part-size", 10)
    assert rows["index"].to_pylist() == NUMBERS
    assert rows["photo"][0].as_py() == "memory:///bucket/images/01.jpg"
    rows = bulk("memory://bucket/images/2*.jpg", output="pattern.parquet")
    assert rows["index"].to_pylist() == list(range(20, 26))


def test_containers_behind_urls(bulk, tmp_path):
    """Archives and Parquet files are read where they are."""
    bucket = fsspec.filesystem("memory")
    bucket.pipe_file("/bucket/a.tar", write_tar(tmp_path / "a.tar", NUMBERS).read_bytes())
    bucket.pipe_file("/bucket/b.parquet", write_parquet(tmp_path / "b.parquet", [b"\7"]).read_bytes())
    rows = bulk("memory://bucket/a.tar", "memory://bucket/b.parquet", "--part-size", 10)
    assert rows["index"].to_pylist() == [*NUMBERS, 7]
    assert rows["photo"][-1].as_py() == "memory://bucket/b.parquet#0"


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
def test_urls_may_be_chained(bulk, tmp_path, served, protocol):
    """Images in an archive that is not unpacked; each is whole, though many threads send images of the one file."""
    fsspec.register_implementation("slow", SlowFileSystem, clobber=True)
    mixed = grpc.StatusCode.INVALID_ARGUMENT, "mixed with another image"
    served.fail = lambda content: mixed if len(set(content)) > 1 or len(content) != 10_000 else None
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as zip_file, tarfile.open(tmp_path / "a.tar", "w") as tar_file:
        for number in range(40):
            image = tmp_path / f"{number:02d}.jpg"
            image.write_bytes(bytes([number]) * 10_000)
            zip_file.write(image, image.name)
            tar_file.add(image, image.name)
    archive = f"slow://{tmp_path}/a.{protocol}"
    rows = bulk(f"{protocol}://*.jpg::{archive}")
    assert rows["index"].to_pylist() == list(range(40))
    assert rows["photo"][0].as_py() == f"{protocol}://00.jpg::{archive}"


def test_no_image_comes_twice(bulk, folder):
    """Sources may overlap."""
    rows = bulk("images/02.jpg", "images", "images/below/*.jpg", folder)
    assert sorted(rows["index"].to_pylist()) == NUMBERS


@pytest.mark.parametrize(
    "source", ["nowhere", "nowhere.jpg", "nowhere*.jpg", "notes.txt", "s4://bucket/images", "nowhere.tar", "in.parquet"]
)
def test_invalid_source_ends_the_run(bulk, source, tmp_path, capsys):
    """One message that names it, and no output."""
    (tmp_path / "notes.txt").write_text("not an image")
    (tmp_path / "in.parquet").write_bytes(b"not Parquet")
    bulk(source, code=ExitCode.USAGE)
    message = capsys.readouterr().err
    assert source in message
    assert message.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.parquet", "notes.txt"]


def test_file_system_errors_fail_image_by_image(bulk, folder, monkeypatch):
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
