"""A run that was stopped goes on: nothing twice, nothing lost, nothing mixed up."""

import contextlib
import itertools
import sys

import pyarrow.dataset
import pytest
from resnet_client import ClientConfig, UnavailableError
from resnet_client._bulk import _store
from resnet_client._bulk._engines import Plan, Worker
from resnet_client._bulk._parts import Layout
from resnet_client._bulk._units import Task, Unit
from resnet_client.cli.exit_codes import ExitCode

from .conftest import write_tar

NUMBERS = list(range(1, 26))


class KilledError(BaseException):
    """Stands for the end of the process."""


@contextlib.contextmanager
def killed_after(files):
    """Let the run in this block die after it has written so many files, half way through the next."""
    left = itertools.count(files, -1)

    def dying(path):
        if next(left) == 0:
            path.with_name(f"_{path.name}.partial").write_bytes(b"half")
            raise KilledError
        return appearing(path)

    appearing = _store._appearing
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KilledError):
        patch.setattr(_store, "_appearing", dying)
        yield


@pytest.mark.parametrize("source", ["photos", "shard.tar"])
@pytest.mark.parametrize("files", [0, 1, 2, 4, 7])
@pytest.mark.usefixtures("folder")
def test_a_killed_run_goes_on(bulk, tmp_path, served, source, files):
    """Wherever it dies, the next start completes it; photos of parts that are written are not asked for again."""
    write_tar(tmp_path / "shard.tar", NUMBERS)
    options = (source, "--part-size", 5, "--max-in-flight", 1)
    with killed_after(files):
        bulk(*options)
    written = list(tmp_path.rglob("part-*.parquet"))
    served.asked.clear()
    assert bulk(*options)["index"].to_pylist() == NUMBERS
    assert len(served.asked) == len(NUMBERS) - 5 * len(written)
    assert not (tmp_path / "results.parquet.parts").exists()


def test_a_finished_run_has_nothing_to_do(bulk, folder, served, capsys):
    """Started again, it asks nobody, and says why a photo that came since is not in it."""
    first = bulk("photos")
    assert "already" not in capsys.readouterr().err
    served.asked.clear()
    (folder / "00.jpg").write_bytes(b"\0")
    assert bulk("photos").equals(first)
    assert not served.asked
    said = "25 photos, 0 failed; it is complete already, --restart begins anew"
    assert capsys.readouterr().err == f"resnet-client: results.parquet: {said}\n"
    assert bulk("photos", "--restart")["index"].to_pylist() == [0, *NUMBERS]


def test_the_inventory_is_taken_once(bulk, folder):
    """Photos that appear between two starts belong to another run; those that went are rows with errors."""
    with killed_after(3):
        bulk("photos", "--part-size", 5)
    (folder / "00.jpg").write_bytes(b"\0")
    (folder / "below/25.jpg").unlink()
    rows = bulk("photos", "--part-size", 5, code=ExitCode.SOME_FAILED)
    assert rows["index"].to_pylist() == [*NUMBERS[:-1], None]


def test_another_run_does_not_get_mixed_in(bulk, folder, capsys):
    """Other settings are refused by name, unless the run begins anew."""
    bulk("photos")
    assert bulk("photos", "--embed", code=ExitCode.USAGE) is None
    assert "top_k was 5, is None" in capsys.readouterr().err
    assert "features" in bulk("photos", "--embed", "--restart").schema.names


@pytest.mark.parametrize("output", ["results.parquet", "rows"])
def test_beginning_anew_with_a_mistyped_source_loses_nothing(bulk, folder, output):
    """What an earlier run has found goes when there is something to begin with."""
    first = bulk("photos", output=output)
    assert bulk("nodir", "--restart", output=output, code=ExitCode.USAGE) is None
    assert bulk("photos", output=output).equals(first)
    assert bulk("photos/01.jpg", "--restart", output=output)["index"].to_pylist() == [1]


def test_what_is_not_ours_is_not_touched(bulk, folder, tmp_path, capsys):
    """Neither a file of somebody else's nor a folder with something in it."""
    (tmp_path / "results.parquet").write_bytes(b"precious")
    for arguments in ([], ["--restart"]):
        assert bulk("photos", *arguments, code=ExitCode.USAGE) is None
    assert (tmp_path / "results.parquet").read_bytes() == b"precious"
    assert bulk("photos", output="photos", code=ExitCode.USAGE) is None
    assert not list(folder.glob("_*"))
    assert "holds something else" in capsys.readouterr().err


@pytest.mark.parametrize("output", ["results.parquet", "rows"])
@pytest.mark.parametrize("source", ["nodir", "photos nodir", "empty"])
def test_a_mistyped_source_leaves_nothing(bulk, folder, tmp_path, source, output):
    """The corrected command has the output for itself."""
    (tmp_path / "empty").mkdir()
    before = sorted(tmp_path.iterdir())
    bulk(*source.split(), output=output, code=ExitCode.USAGE)
    assert sorted(tmp_path.iterdir()) == before
    assert bulk("photos", output=output)["index"].to_pylist() == NUMBERS


def test_a_run_killed_before_its_inventory_binds_nobody(bulk, folder):
    """It has asked for nothing yet, so that the next start may ask for something else."""
    for files in (0, 1):
        with killed_after(files):
            bulk("photos")
    assert "features" in bulk("photos", "--embed").schema.names


def test_without_ray_nothing_is_begun(bulk, folder, tmp_path, monkeypatch, capsys):
    """The extra is asked for before the output is touched."""
    monkeypatch.setitem(sys.modules, "ray", None)
    bulk("photos", "--engine", "ray", code=ExitCode.USAGE)
    assert "pip install 'resnet50-triton[ray]'" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [folder]


def test_two_runs_do_not_share_an_output(bulk, folder, tmp_path, capsys):
    """The second is told so."""
    store = _store.Store(tmp_path / "results.parquet", {"part_size": 1})
    with store.held(restart=False):
        assert bulk("photos", code=ExitCode.USAGE) is None
    assert "in use by another run" in capsys.readouterr().err


def test_a_folder_keeps_its_parts(bulk, folder, tmp_path, served):
    """For data sets too large for one file; readers see the rows only."""
    bulk("photos", "--part-size", 5, output="rows")
    assert (tmp_path / "rows/_SUCCESS").exists()
    assert len(list((tmp_path / "rows").glob("part-*.parquet"))) == 5
    assert pyarrow.dataset.dataset(tmp_path / "rows").to_table()["index"].to_pylist() == NUMBERS
    served.asked.clear()
    bulk("photos", "--part-size", 5, output="rows")
    assert not served.asked


@pytest.mark.parametrize("name", ["out.csv", "out.txt", "out.PARQUET", "out.parquet.gz"])
def test_a_suffix_of_another_format_is_refused(bulk, folder, tmp_path, capsys, name):
    """It would be a folder in disguise; nothing is begun."""
    bulk("photos", output=name, code=ExitCode.USAGE)
    assert f"--output must end in .parquet, or name a folder, without a suffix, not '{name}'" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [folder]


@pytest.mark.parametrize("name", ["rows-1.5", "rows.d"])
def test_a_dot_makes_no_format(bulk, folder, tmp_path, name):
    """A number behind it is a version's, and a folder that is there is one."""
    (tmp_path / "rows.d").mkdir()
    assert bulk("photos", output=name)["index"].to_pylist() == NUMBERS


def test_a_run_without_patience_keeps_what_it_has(bulk, folder, served, tmp_path):
    """Parts that were complete when the servers went away are there."""
    answer = served.send

    def send(request, timeout_s):
        if len(served.asked) >= 12:
            raise UnavailableError("gone")
        return answer(request, timeout_s)

    served.send = send
    options = ("photos", "--part-size", 5, "--max-in-flight", 1)
    bulk(*options, "--max-attempts", 1, "--patience-s", 0, code=ExitCode.NOT_READY)
    served.send, before = answer, len(served.asked)
    assert bulk(*options)["index"].to_pylist() == NUMBERS
    assert len(served.asked) - before == 15


def test_a_worker_of_the_cluster_does_the_same(served, folder):
    """Its parts, unpacked, are those that the local engine makes."""
    from resnet_client._bulk._engines import _unpacked

    unit = Unit("files", f"{folder}/", ("01.jpg", "02.jpg", "below/21.jpg"), count=3)
    worker = Worker(Plan(ClientConfig(), Layout(5, 0, 2), 4, 1.0))
    rows = [{k: v[0] for k, v in row.items()} for row in worker({"item": [Task(7, unit).to_json()]})]
    assert sorted((r["unit"], r["number"], r["is_last"]) for r in rows) == [(7, 0, False), (7, 1, True)]
    found = sorted(index for row in rows for index in _unpacked(row["table"])["index"].to_pylist())
    assert found == [1, 2, 21]
