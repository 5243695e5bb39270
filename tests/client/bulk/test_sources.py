"""Every kind of source gives one row for each image, in a stable order; what cannot be read has a message."""

import bz2
import contextlib
import os
import subprocess
import tarfile
import unicodedata

import fsspec
import pytest
import requests
from resnet_client.cli.exit_codes import ExitCode
from s3fs import S3FileSystem

from .conftest import write_parquet, write_tar

NUMBERS = list(range(1, 26))
NAMES = ["a::b", "a#b", "a%20b", "a?b", "a*[1]b", "a'\"b", "a b", "{1..3}", "a\\b", "a\nb"]
NAMES += [unicodedata.normalize(form, "é") for form in ("NFC", "NFD")]


@pytest.fixture
def everywhere(folder, tmp_path, request):
    """The same 25 images in a folder, archives, Parquet, and, if the test has a URL, the same behind URLs."""
    for suffix, mode in (("tar", "w"), ("tar.gz", "w:gz"), ("tgz", "w:gz"), ("tar.xz", "w:xz")):
        write_tar(tmp_path / f"a.{suffix}", NUMBERS, mode)
    for shard in range(5):
        write_tar(tmp_path / f"shard-{shard:03d}.tar", NUMBERS[shard * 5 : shard * 5 + 5])
    write_parquet(tmp_path / "a.parquet", [bytes([number]) for number in NUMBERS], row_group_size=7)
    source = request.node.callspec.params.get("source", request.node.callspec.params.get("pattern"))
    if "://" in source:
        url = request.getfixturevalue("bucket") if source.startswith("s3") else "memory://bucket"
        system, path = fsspec.url_to_fs(url)
        for number in NUMBERS:
            system.pipe_file(f"{path}/images/{number:02d}.jpg", bytes([number]))
        for name in ("a.tar", "a.parquet"):
            system.pipe_file(f"{path}/{name}", (tmp_path / name).read_bytes())


@pytest.mark.parametrize(
    ("source", "first", "last"),
    [
        ("images", "images/01.jpg", "images/below/25.jpg"),
        *((name, f"{name}/0001.jpg", f"{name}/0025.jpg") for name in ("a.tar", "a.tar.gz", "a.tgz", "a.tar.xz")),
        ("shard-{000..004}.tar", "shard-000.tar/0001.jpg", "shard-004.tar/0025.jpg"),  # as WebDataset has it
        ("a.parquet", "a.parquet#0", "a.parquet#24"),  # the only column of bytes is found
        ("memory://bucket/images", "memory:///bucket/images/01.jpg", "memory:///bucket/images/25.jpg"),
        ("s3://bucket/images", "s3://bucket/images/01.jpg", "s3://bucket/images/25.jpg"),
        ("s3://bucket/a.tar", "s3://bucket/a.tar/0001.jpg", "s3://bucket/a.tar/0025.jpg"),
        ("s3://bucket/a.parquet", "s3://bucket/a.parquet#0", "s3://bucket/a.parquet#24"),
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
        ("s3://bucket/images/2*.jpg", [f"s3://bucket/images/2{number}.jpg" for number in range(6)]),
    ],
)
@pytest.mark.usefixtures("everywhere")
def test_sources_may_be_patterns(bulk, pattern, expected):
    """Also behind URLs."""
    assert bulk(pattern)["image"].to_pylist() == expected


@pytest.mark.parametrize("source", ["images", "images/*", "a.tar", "s3://bucket/images", "one by one"])
def test_sources_may_have_any_names(bulk, bucket, tmp_path, source):
    """A name of an existing file is neither a pattern nor a range, and ``::`` is a part of it."""
    (tmp_path / "images").mkdir()
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for number, name in enumerate(NAMES):
            (tmp_path / "images" / f"{name}.jpg").write_bytes(bytes([number]))
            archive.add(tmp_path / "images" / f"{name}.jpg", f"images/{name}.jpg")
            if name.isprintable():
                S3FileSystem().pipe_file(f"{bucket}/images/{name}.jpg", bytes([number]))
    rows = bulk(*([source] if source != "one by one" else [f"images/{name}.jpg" for name in NAMES]))
    found = {row["index"]: row["image"].partition("images/")[2] for row in rows.to_pylist()}
    expected = {number: f"{name}.jpg" for number, name in enumerate(NAMES)}
    assert found == {n: name for n, name in expected.items() if name.isprintable() or not source.startswith("s3")}
    assert rows.num_rows == len(found)


@pytest.mark.parametrize("source", ["images", "images/*.png", "shard.tar"])
def test_sources_escape_names_that_are_not_utf8(bulk, tmp_path, source):
    """As `classify` does; the image is found by its own name, also by a second start."""
    image = tmp_path / "images" / os.fsdecode(b"caf\xe9.png")
    image.parent.mkdir()
    image.write_bytes(b"\7")
    with tarfile.open(tmp_path / "shard.tar", "w") as archive:
        archive.add(image, f"images/{image.name}")
    (row,) = bulk(source).to_pylist()
    assert (row["image"].removeprefix("shard.tar/"), row["index"]) == (r"images/caf\udce9.png", 7)
    assert bulk(source).to_pylist() == [row]


def test_sources_that_are_not_files_have_a_row_each(bulk, odd_files):
    """Links are not followed in circles; folders that cannot be listed are not left out."""
    rows = bulk("odd", code=ExitCode.SOME_FAILED).to_pylist()
    assert {row["image"]: row["error"] for row in rows if row["error"]} == odd_files
    assert [row["image"] for row in rows if row["error"] is None] == ["odd/137/image.png"]
    assert len(rows) == len(odd_files) + 1


def test_sources_may_be_parquet_files_of_hugging_face(bulk, tmp_path):
    """A structure of bytes and path; a row without bytes has an error."""
    cells = [{"bytes": b"\1", "path": None}, {"bytes": None, "path": "2.jpg"}, None]
    rows = bulk(write_parquet(tmp_path / "in.parquet", cells), code=ExitCode.SOME_FAILED)
    assert rows["index"].to_pylist() == [1, None, None]
    assert rows["error"].to_pylist() == [None] + ["there is no image in this row"] * 2


@pytest.mark.parametrize("options", [(), ("--column", "id")])
def test_sources_need_a_column_of_bytes(bulk, tmp_path, capsys, options):
    """The message lists the columns."""
    write_parquet(tmp_path / "in.parquet", ["1.jpg"])
    bulk("in.parquet", *options, code=ExitCode.USAGE)
    assert "set --column to the column of bytes, one of id, image" in capsys.readouterr().err


INVALID = ["nowhere", "nowhere*.jpg", "notes.txt", "in.parquet", "s4://bucket/images", "s3://bucket/nowhere"]


@pytest.mark.parametrize("source", [*INVALID, "s3://nobucket/images", "zip://*.jpg::images.zip"])
@pytest.mark.usefixtures("bucket")
def test_sources_that_are_invalid_end_the_run(bulk, source, tmp_path, capsys):
    """One message that names it, and no output."""
    (tmp_path / "notes.txt").write_text("not an image")
    (tmp_path / "in.parquet").write_bytes(b"not Parquet")
    bulk(source, code=ExitCode.USAGE)
    message = capsys.readouterr().err
    assert source in message
    assert message.count("\n") == 1
    assert not (tmp_path / "results.parquet").exists()


@pytest.mark.parametrize("source", ["{}", "{}/*.jpg", "{}/0.jpg"])
@pytest.mark.parametrize("variable", ["AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID"])
def test_buckets_that_do_not_answer_end_the_run(bulk, bucket, monkeypatch, capsys, variable, source):  # noqa: PLR0917
    """An unreachable one with exit code 3, one without credentials with 2."""
    is_unreachable = variable == "AWS_ENDPOINT_URL"
    if is_unreachable:
        monkeypatch.setenv(variable, "http://127.0.0.1:1")
        monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    else:
        monkeypatch.delenv(variable)
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    S3FileSystem.clear_instance_cache()
    bulk(source.format(bucket), code=ExitCode.NOT_READY if is_unreachable else ExitCode.USAGE)
    message = capsys.readouterr().err
    assert ("Could not connect to the endpoint" if is_unreachable else "Unable to locate credentials") in message
    assert message.count("\n") == 1


@pytest.fixture
def filled(bucket):
    """The URL of a folder of ten images."""
    for number in range(10):
        S3FileSystem().pipe_file(f"{bucket}/images/{number}.jpg", bytes([number]))
    return f"{bucket}/images"


@pytest.fixture
def failing(filled, monkeypatch):
    """Let each read of an object raise this error."""

    @contextlib.contextmanager
    def fail(error):
        async def raising(*_, **__):
            raise error

        with monkeypatch.context() as patch:
            patch.setattr(S3FileSystem, "_cat_file", raising)
            S3FileSystem.clear_instance_cache()
            yield filled
        S3FileSystem.clear_instance_cache()

    return fail


def test_buckets_that_refuse_objects_give_them_a_row(bulk, failing):
    """The list was allowed; each object has an error."""
    with failing(PermissionError("Access Denied")) as url:
        rows = bulk(url, code=ExitCode.SOME_FAILED)
    assert all("cannot be read: Access Denied" in error for error in rows["error"].to_pylist())


def test_buckets_that_stop_answering_leave_no_rows(bulk, failing, capsys):
    """The run ends and can be resumed, as when servers are unavailable."""
    with failing(requests.exceptions.ConnectionError("gone")) as url:
        bulk(url, "--unavailable-timeout-s", 0, code=ExitCode.NOT_READY)
    assert "gone" in capsys.readouterr().err
    assert bulk(url)["index"].to_pylist() == list(range(10))


@pytest.mark.parametrize("compress", [lambda content: content, bz2.compress], ids=["tar", "tar.bz2"])
def test_archives_may_have_several_streams(bulk, tmp_path, compress):
    """As parallel compressors write them; links and devices have a row with an error."""
    path = write_tar(tmp_path / "a.tar", range(1, 9))
    with tarfile.open(path, "a") as archive:
        link = tarfile.TarInfo("link.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, "0001.jpg"
        archive.addfile(link)
    whole = path.read_bytes()
    path.write_bytes(compress(whole[:3000]) + compress(whole[3000:]))
    rows = bulk("a.tar", "--part-size", 4, code=ExitCode.SOME_FAILED)
    assert rows["index"].to_pylist() == [*range(1, 9), None]
    assert rows["error"].to_pylist()[-1] == "it is a link or a device, not a file"


SIXTH = 5 * 2048  # where the sixth image of an archive begins


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:SIXTH],  # between two members
        lambda content: content[: SIXTH + 100],  # in a header
        lambda content: content[: SIXTH + 513],  # in an image
        lambda content: content[:SIXTH] + b"?" * 512 + content[SIXTH + 512 :],  # tarfile takes it for the end
    ],
)
def test_archives_that_are_damaged_are_read_as_far_as_possible(bulk, tmp_path, damage):
    """And one row with the place of the damage."""
    (tmp_path / "cut.tar").write_bytes(damage(write_tar(tmp_path / "whole.tar", range(1, 9)).read_bytes()))
    rows = bulk("cut.tar", code=ExitCode.SOME_FAILED)
    assert rows["index"].to_pylist() == [1, 2, 3, 4, 5, None]
    assert rows["image"].to_pylist()[-1] == "cut.tar"
    assert "damaged after 5 images" in rows["error"].to_pylist()[-1]


@pytest.mark.parametrize("kind", ["gz", "bz2", "xz"])
def test_archives_that_are_compressed_report_their_damage(bulk, tmp_path, kind):
    """Each decompressor raises its own errors."""
    name = f"a.tar.{kind}"
    whole = bytearray(write_tar(tmp_path / name, range(1, 200), f"w:{kind}").read_bytes())
    whole[len(whole) // 2 :] = b"?" * (len(whole) - len(whole) // 2)
    (tmp_path / name).write_bytes(whole)
    rows = bulk(name, code=ExitCode.SOME_FAILED)
    assert rows["image"].to_pylist()[-1] == name
    assert "damaged after" in rows["error"].to_pylist()[-1]


def test_archives_that_cannot_be_opened_have_a_row(bulk, tmp_path):
    """They do not end the run."""
    (tmp_path / "gone.tar").symlink_to("nowhere")
    os.mkfifo(tmp_path / "pipe.tar")
    write_tar(tmp_path / "there.tar", (1, 2))
    errors = bulk("*.tar", code=ExitCode.SOME_FAILED)["error"].to_pylist()
    assert errors == [
        "gone.tar: there is no such file",
        "pipe.tar: this is a pipe, a socket or a device, not a file",
        None,
        None,
    ]


def test_bulk_sends_no_unreadable_files(bulk, tmp_path, served):
    """Broken links, empty files and files that are too large have an error each; members of an archive likewise."""
    for name, size in (("none.jpg", 0), ("vast.jpg", 33_554_433)):
        with (tmp_path / name).open("wb") as file:
            file.truncate(size)
    subprocess.run(["tar", "-cSf", "a.tar", "none.jpg", "vast.jpg"], cwd=tmp_path, check=True)
    (tmp_path / "gone.jpg").symlink_to("nowhere")
    errors = bulk("*.jpg", "a.tar", code=ExitCode.SOME_FAILED)["error"].to_pylist()
    assert errors[0] == "gone.jpg: there is no such file"
    for empty, large in (errors[1:3], errors[3:]):
        assert "0 bytes" in empty
        assert "more than the 33554432 allowed" in large
    assert not served.received
