"""A run that was stopped resumes: nothing twice, nothing lost, nothing mixed up."""

import contextlib
import io
import itertools
import json
import pathlib
import sys

import filelock
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest
from resnet_client import Client
from resnet_client.bulk import parts, ray_engine
from resnet_client.bulk.run import Options
from resnet_client.cli.exit_codes import ExitCode

from .conftest import UNAVAILABLE, write_parquet, write_tar

NUMBERS = list(range(1, 26))


class KilledError(BaseException):
    """Stands for the end of the process."""


@contextlib.contextmanager
def killed_after(files):
    """Let the run in this block die after it has written so many files, before it renames the next."""
    left = itertools.count(files, -1)

    def dying_replace(path, target):
        if next(left) == 0:
            path.write_bytes(b"half")
            raise KilledError
        return replace(path, target)

    replace = pathlib.Path.replace
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KilledError):
        patch.setattr(pathlib.Path, "replace", dying_replace)
        yield


@pytest.mark.parametrize("source", ["images", "shard.tar", "in.parquet"])
@pytest.mark.parametrize("files", [0, 1, 2, 4, 6])
@pytest.mark.usefixtures("folder")
def test_resume_completes_a_killed_run(bulk, tmp_path, stub, source, files):
    """Wherever it dies; images of parts that are written are not sent again."""
    write_tar(tmp_path / "shard.tar", NUMBERS)
    write_parquet(tmp_path / "in.parquet", [bytes([number]) for number in NUMBERS], row_group_size=15)
    options = (source, "--part-size", 5, "--max-in-flight", 1)
    with killed_after(files):
        bulk(*options)
    written = list(tmp_path.rglob("part-*.parquet"))
    assert len(written) == max(0, files - 1)
    stub.received.clear()
    assert bulk(*options)["index"].to_pylist() == NUMBERS
    assert len(stub.received) == len(NUMBERS) - 5 * len(written)
    assert not (tmp_path / "results.parquet.parts").exists()


def test_resume_sends_nothing_for_a_complete_run(bulk, folder, stub, capsys):
    """The message explains that a new image is not part of the run."""
    first = bulk("images")
    assert "already" not in capsys.readouterr().err
    stub.received.clear()
    (folder / "00.jpg").write_bytes(b"\0")
    assert bulk("images").equals(first)
    assert not stub.received
    summary = "25 images, 0 failed; already complete; use --restart to run it again"
    assert capsys.readouterr().err == f"resnet-client: results.parquet: {summary}\n"
    assert bulk("images", "--restart")["index"].to_pylist() == [0, *NUMBERS]


def test_resume_keeps_the_inventory(bulk, folder):
    """Images that appear between two starts belong to another run; those that vanish are rows with errors."""
    with killed_after(3):
        bulk("images", "--part-size", 5)
    (folder / "00.jpg").write_bytes(b"\0")
    (folder / "below/25.jpg").unlink()
    rows = bulk("images", "--part-size", 5, code=ExitCode.SOME_FAILED)
    assert rows["index"].to_pylist() == [*NUMBERS[:-1], None]


def test_resume_counts_earlier_starts_in_the_summary(bulk, folder, capsys):
    (folder / "01.jpg").write_bytes(b"\xff")
    with killed_after(3):
        bulk("images", "--part-size", 5)
    bulk("images", "--part-size", 5, code=ExitCode.SOME_FAILED)
    assert "25 images, 1 failed, " in capsys.readouterr().err


def test_resume_refuses_other_settings(bulk, folder, capsys):
    """By name, unless the run restarts; parts of two runs do not get mixed up."""
    with killed_after(3):
        bulk("images", "--part-size", 5)
    assert bulk("images", "--part-size", 6, code=ExitCode.USAGE) is None
    assert "part_size: 5 before, now 6" in capsys.readouterr().err
    bulk("images", "--part-size", 5)
    assert bulk("images", "--part-size", 5, "--embed", code=ExitCode.USAGE) is None
    assert "top_k: 5 before, now None" in capsys.readouterr().err
    assert "features" in bulk("images", "--embed", "--restart").schema.names


@pytest.mark.parametrize("output", ["results.parquet", "rows"])
def test_restart_with_an_invalid_source_loses_nothing(bulk, folder, output):
    """What an earlier run has found is discarded only when there is an image to send."""
    first = bulk("images", output=output)
    assert bulk("nodir", "--restart", output=output, code=ExitCode.USAGE) is None
    assert bulk("images", output=output).equals(first)
    assert bulk("images/01.jpg", "--restart", output=output)["index"].to_pylist() == [1]


def test_resume_leaves_other_files_untouched(bulk, folder, tmp_path, capsys):
    """Neither a file that no bulk run has written nor a folder that contains other files."""
    (tmp_path / "results.parquet").write_bytes(b"precious")
    for arguments in ([], ["--restart"]):
        assert bulk("images", *arguments, code=ExitCode.USAGE) is None
    assert (tmp_path / "results.parquet").read_bytes() == b"precious"
    assert bulk("images", output="images", code=ExitCode.USAGE) is None
    assert not list(folder.glob("_*"))
    assert "contains other files" in capsys.readouterr().err


@pytest.mark.parametrize("output", ["results.parquet", "rows"])
@pytest.mark.parametrize("source", ["nodir", "images nodir", "empty"])
def test_resume_leaves_nothing_of_an_invalid_source(bulk, folder, tmp_path, source, output):
    """The corrected command finds its output free."""
    (tmp_path / "empty").mkdir()
    before = sorted(tmp_path.iterdir())
    bulk(*source.split(), output=output, code=ExitCode.USAGE)
    assert sorted(tmp_path.iterdir()) == before
    assert bulk("images", output=output)["index"].to_pylist() == NUMBERS


def test_resume_accepts_other_settings_before_the_inventory(bulk, folder):
    with killed_after(0):
        bulk("images")
    assert "features" in bulk("images", "--embed").schema.names


def test_ray_engine_names_a_missing_ray(bulk, folder, tmp_path, monkeypatch, capsys):
    """Before the output is touched."""
    monkeypatch.setitem(sys.modules, "ray", None)
    bulk("images", "--engine", "ray", code=ExitCode.USAGE)
    assert "pip install '.[ray]' in the project's folder" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [folder]


def test_resume_refuses_an_output_in_use(bulk, folder, tmp_path, capsys):
    (tmp_path / "rows").mkdir()
    with filelock.FileLock(tmp_path / "rows/_lock"):
        assert bulk("images", output="rows", code=ExitCode.USAGE) is None
    assert "in use by another run" in capsys.readouterr().err
    assert bulk("images", output="rows")["index"].to_pylist() == NUMBERS


def test_bulk_keeps_parts_in_an_output_folder(bulk, folder, tmp_path, stub):
    """For data sets too large for one file; readers see the rows only."""
    bulk("images", "--part-size", 5, output="rows")
    assert (tmp_path / "rows/_SUCCESS").exists()
    assert len(list((tmp_path / "rows").glob("part-*.parquet"))) == 5
    assert pyarrow.dataset.dataset(tmp_path / "rows").to_table()["index"].to_pylist() == NUMBERS
    stub.received.clear()
    bulk("images", "--part-size", 5, output="rows")
    assert not stub.received


def test_bulk_writes_into_a_partitioned_data_set(bulk, folder, tmp_path):
    """A folder `day=1` adds no column to the rows."""
    (tmp_path / "day=1").mkdir()
    assert "day" not in bulk("images", output="day=1/results.parquet").schema.names
    assert bulk("images", output="day=1/results.parquet")["index"].to_pylist() == NUMBERS


@pytest.mark.parametrize("name", ["out.csv", "out.txt", "out.PARQUET", "out.parquet.gz"])
def test_bulk_refuses_the_suffix_of_another_format(bulk, folder, tmp_path, capsys, name):
    """It would become a folder of that name; nothing is begun."""
    bulk("images", output=name, code=ExitCode.USAGE)
    assert f"invalid --output '{name}': expected FILE.parquet or a folder" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [folder]


@pytest.mark.parametrize("name", ["rows-1.5", "rows.d"])
def test_bulk_accepts_a_dot_in_the_output_folder(bulk, folder, tmp_path, name):
    """A number after it is a version, and an existing folder is a folder."""
    (tmp_path / "rows.d").mkdir()
    assert bulk("images", output=name)["index"].to_pylist() == NUMBERS


def test_resume_keeps_parts_of_a_run_that_gave_up(bulk, folder, stub):
    """Parts that were complete when the servers became unavailable are not sent again."""
    stub.fail = lambda *_: UNAVAILABLE if len(stub.received) > 12 else None
    options = ("images", "--part-size", 5, "--max-in-flight", 1)
    bulk(*options, "--max-attempts", 1, "--unavailable-timeout-s", 0, code=ExitCode.NOT_READY)
    stub.fail = lambda *_: None
    stub.received.clear()
    assert bulk(*options)["index"].to_pylist() == NUMBERS
    assert len(stub.received) == 15


def test_ray_engine_worker_makes_the_same_parts(stub, folder):
    """Its rows travel as the bytes of a Parquet file."""
    unit = {"kind": "files", "names": [f"{folder}/{name}.jpg" for name in ("01", "02", "below/21")], "count": 3}
    options = Options(sources=(str(folder),), output=folder, part_size=2)
    with Client() as client:
        worker = ray_engine.Worker(client.config, options, parts.make_schema(client, 5), folder)
    rows = [{name: values[0] for name, values in row.items()} for row in worker({"item": [json.dumps((7, unit, 0))]})]
    assert [row["name"] for row in rows] == ["part-000007-0000.parquet", "part-000007-0001-end.parquet"]
    tables = [pq.read_table(io.BytesIO(row["content"])) for row in rows]
    assert [index for table in tables for index in table["index"].to_pylist()] == [1, 2, 21]
