"""Exactly one row for each image, whatever it is called and wherever it is."""

import io
import os
import tarfile
import unicodedata
import zipfile

import fsspec
import pytest

PUNCTUATION = ["a::b", "a#b", "a%20b", "a?b", "a*[1]b", "a'\"b", "a b", "{1..3}", "a\\b", "a\nb"]
UNICODE = [unicodedata.normalize(form, "é") for form in ("NFC", "NFD")]
NAMES = [f"{name}.jpg" for name in [*PUNCTUATION, *UNICODE, os.fsdecode(b"a\xe9b"), r"a\udce9b"]]


@pytest.fixture
def everywhere(tmp_path, bucket):
    """Images with these names in a folder, archives and buckets; the content is the place in the list."""
    (tmp_path / "images").mkdir()
    with tarfile.open(tmp_path / "a.tar", "w") as tar, zipfile.ZipFile(tmp_path / "a.zip", "w") as zip_file:
        for number, name in enumerate(NAMES):
            (tmp_path / "images" / name).write_bytes(bytes([number]))
            member = tarfile.TarInfo(f"images/{name}")
            member.size = 1
            tar.addfile(member, io.BytesIO(bytes([number])))
            if name.isprintable():
                zip_file.writestr(f"images/{name}", bytes([number]))
                for url in ("memory://names", bucket):
                    filesystem, path = fsspec.url_to_fs(f"{url}/images")
                    filesystem.pipe_file(f"{path}/{name}", bytes([number]))
    fsspec.filesystem("s3").put_file(str(tmp_path / "a.tar"), f"{bucket}/a.tar")


def shown(number):
    """How a row has the name; only undecodable bytes, and what looks like them, are escaped."""
    return {len(NAMES) - 2: r"a\udce9b.jpg", len(NAMES) - 1: r"a\\udce9b.jpg"}.get(number, NAMES[number])


LOCAL = [
    "images",
    "images/*",
    "images/**/*",
    "a.tar",
    "{bucket}/a.tar",
    "tar://::a.tar",
    "tar://images/*::{bucket}/a.tar",
]
REMOTE = ["zip://::a.zip", "zip://images/*::a.zip", "memory://names/images", "{bucket}/images", "{bucket}/images/*"]


@pytest.mark.parametrize("source", [*LOCAL, *REMOTE])
@pytest.mark.usefixtures("everywhere")
def test_names_give_one_row_each(bulk, bucket, source):
    rows = bulk(source.format(bucket=bucket), "--part-size", 4)
    archive = source.format(bucket=bucket).partition("::")[2]
    found = {row["index"]: row["image"].partition("images/")[2] for row in rows.to_pylist()}
    numbers = [number for number, name in enumerate(NAMES) if source in LOCAL or name.isprintable()]
    assert found == {number: shown(number) + (f"::{archive}" if archive else "") for number in numbers}
    assert rows.num_rows == len(numbers)
    assert rows["error"].null_count == len(numbers)


@pytest.mark.parametrize("folder", ["images", "{bucket}/images"])
@pytest.mark.usefixtures("everywhere")
def test_names_may_be_given_one_by_one(bulk, bucket, folder):
    """An existing file is neither a pattern nor a chain of file systems, and if it is local, not a range either.

    A second start recognises the names.
    """
    is_remote = [name.isprintable() and ".." not in name for name in NAMES]
    numbers = [number for number in range(len(NAMES)) if folder == "images" or is_remote[number]]
    sources = [f"{folder.format(bucket=bucket)}/{NAMES[number]}" for number in numbers]
    rows = bulk(*sources)
    assert rows["index"].to_pylist() == numbers
    assert bulk(*sources).equals(rows)
