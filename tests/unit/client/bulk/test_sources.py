"""Every kind of source gives one row for each photo, in a stable order."""

import os
import tarfile
import zipfile

import fsspec
import pytest
from fsspec.implementations.local import LocalFileSystem
from resnet_client._bulk import _reading
from resnet_client.cli.exit_codes import ExitCode

from .conftest import write_parquet, write_tar

NUMBERS = list(range(1, 26))


def test_a_folder_is_searched(bulk, folder):
    """Photos by their suffix, folders below included; names begin as the source does."""
    rows = bulk("photos", "--part-size", 10)
    assert rows["index"].to_pylist() == NUMBERS
    assert rows["photo"][0].as_py() == "photos/01.jpg"
    assert rows["photo"][-1].as_py() == "photos/below/25.jpg"


@pytest.mark.parametrize("source", ["photos", "photos/*.png", "shard.tar"])
def test_names_that_are_no_utf8(bulk, tmp_path, source):
    """They are escaped as `classify` does it; the photo is found by its own name."""
    photo = tmp_path / "photos" / os.fsdecode(b"caf\xe9.png")
    photo.parent.mkdir()
    photo.write_bytes(b"\7")
    with tarfile.open(tmp_path / "shard.tar", "w") as archive:
        archive.add(photo, f"photos/{photo.name}")
    (row,) = bulk(source).to_pylist()
    assert (row["photo"].removeprefix("shard.tar/"), row["index"]) == (r"photos/caf\udce9.png", 7)


def test_a_name_that_is_no_utf8_may_be_a_source(bulk, tmp_path):
    """The settings of the run hold it, so that a second start knows it again."""
    name = os.fsdecode(b"caf\xe9.png")
    (tmp_path / name).write_bytes(b"\7")
    assert bulk(name).equals(bulk(name))


def test_a_pattern_matches_files(bulk, folder):
    """What the shell would do, for a pattern in quotes."""
    rows = bulk("photos/1*.jpg")
    assert rows["photo"].to_pylist() == [f"photos/1{number}.jpg" for number in range(10)]


def test_an_absolute_path_stays_one(bulk, folder):
    """So that rows can be found again by the names that the caller uses."""
    assert bulk(folder / "03.jpg")["photo"].to_pylist() == [str(folder / "03.jpg")]


@pytest.mark.parametrize(("name", "mode"), [("a.tar", "w"), ("a.tar.gz", "w:gz"), ("a.tgz", "w:gz")])
def test_the_photos_of_a_shard(bulk, tmp_path, name, mode):
    """Named after shard and member; what lies beside them is passed over."""
    write_tar(tmp_path / name, NUMBERS, mode)
    rows = bulk(name, "--part-size", 10)
    assert rows["index"].to_pylist() == NUMBERS
    assert rows["photo"][0].as_py() == f"{name}/0001.jpg"


def test_a_range_of_shards(bulk, tmp_path):
    """``{000..002}`` is written out, as WebDataset has it."""
    for shard in range(3):
        write_tar(tmp_path / f"shard-{shard:03d}.tar", range(shard * 4 + 1, shard * 4 + 5))
    rows = bulk("shard-{000..002}.tar", "--part-size", 4)
    assert rows["index"].to_pylist() == list(range(1, 13))


def test_a_column_of_a_parquet_file(bulk, tmp_path):
    """The only column of bytes is found; names tell the row."""
    write_parquet(tmp_path / "in.parquet", [bytes([number]) for number in NUMBERS], row_group_size=7)
    rows = bulk("in.parquet", "--part-size", 5)
    assert rows["index"].to_pylist() == NUMBERS
    assert rows["photo"].to_pylist() == [f"in.parquet#{row}" for row in range(25)]


def test_photos_as_hugging_face_has_them(bulk, tmp_path):
    """A structure of bytes and path; either may be missing."""
    (tmp_path / "2.jpg").write_bytes(b"\2")
    cells = [{"bytes": b"\1", "path": None}, {"bytes": None, "path": str(tmp_path / "2.jpg")}, None]
    rows = bulk(write_parquet(tmp_path / "in.parquet", cells), code=ExitCode.SOME_FAILED)
    assert rows["index"].to_pylist() == [1, 2, None]
    assert rows["error"].to_pylist() == [None, None, "there is no photo in this row"]


def test_a_column_has_to_be_named_where_several_fit(bulk, tmp_path, capsys):
    """The message lists the columns."""
    write_parquet(tmp_path / "in.parquet", [str(tmp_path / "1.jpg")])
    assert bulk("in.parquet", code=ExitCode.USAGE) is None
    assert "--column, one of id, image" in capsys.readouterr().err
    (tmp_path / "1.jpg").write_bytes(b"\1")
    assert bulk("in.parquet", "--column", "image", output="out.parquet")["index"].to_pylist() == [1]


def test_urls_go_through_fsspec(bulk):
    """A bucket with photos and a shard; rows are named by URLs."""
    bucket = fsspec.filesystem("memory")
    for number in NUMBERS:
        bucket.pipe_file(f"/bucket/photos/{number:02d}.jpg", bytes([number]))
    rows = bulk("memory://bucket/photos", "--part-size", 10)
    assert rows["index"].to_pylist() == NUMBERS
    assert rows["photo"][0].as_py() == "memory:///bucket/photos/01.jpg"
    again = bulk("memory://bucket/photos/2*.jpg", output="again.parquet")
    assert again["index"].to_pylist() == list(range(20, 26))


def test_urls_may_be_chained(bulk, folder, tmp_path):
    """Photos in an archive that is not unpacked."""
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        for path in sorted(folder.glob("*.jpg")):
            archive.write(path, path.name)
    rows = bulk("zip://*.jpg::photos.zip")
    assert rows["index"].to_pylist() == NUMBERS[:20]
    assert rows["photo"][0].as_py() == "zip://01.jpg::photos.zip"


def test_no_photo_comes_twice(bulk, folder):
    """Sources may overlap."""
    rows = bulk("photos/02.jpg", "photos", "photos/below/*.jpg")
    assert sorted(rows["index"].to_pylist()) == NUMBERS


@pytest.mark.parametrize("source", ["nowhere", "nowhere*.jpg", "notes.txt", "s4://bucket/photos", "nowhere.tar"])
def test_a_source_that_is_none_ends_the_run(bulk, source, tmp_path, capsys):
    """One sentence that names it, and no output."""
    (tmp_path / "notes.txt").write_text("no photo")
    bulk(source, code=ExitCode.USAGE)
    assert source in capsys.readouterr().err
    assert not (tmp_path / "results.parquet").exists()


def test_a_place_with_errors_of_its_own_fails_photo_by_photo(bulk, folder, monkeypatch):
    """HTTP's errors in fsspec are no OSError; they are tried again, and then told in the photo's row."""

    class Elsewhere(LocalFileSystem):
        def cat_file(self, path, **options):
            if path.endswith("07.jpg"):
                raise RuntimeError("503, message='Service Unavailable'")
            return super().cat_file(path, **options)

    monkeypatch.setattr(_reading, "filesystem_of", lambda _: Elsewhere())
    monkeypatch.setattr(_reading, "_PAUSES_S", (0.0, 0.0))
    errors = bulk("photos/07.jpg", "photos/08.jpg", code=ExitCode.SOME_FAILED)["error"].to_pylist()
    assert "503" in errors[0]
    assert errors[1] is None
