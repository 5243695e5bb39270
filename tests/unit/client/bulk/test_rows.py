"""What a row holds, for good photos and bad ones."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from resnet_client import OverloadedError, RequestError, ResponseError, UnavailableError
from resnet_client._bulk import _asking
from resnet_client._bulk._parts import Layout
from resnet_client.cli.exit_codes import ExitCode
from resnet_client.errors import ModelNotFoundError

from .conftest import WIDTH, write_parquet, write_tar

PAGE = Path(__file__).resolve().parents[4] / "docs/bulk.md"


@pytest.fixture
def one(tmp_path):
    """A single photo."""
    (tmp_path / "7.jpg").write_bytes(b"\7")
    return "7.jpg"


def test_a_classified_photo(bulk, one):
    """Its best class, all that were asked for, and the version that said so."""
    (row,) = bulk(one, "--top-k", 2).to_pylist()
    best = {"index": 7, "label": "label 7", "probability": 0.5}
    second = {"index": 8, "label": "label 8", "probability": 0.25}
    expected = {"photo": "7.jpg", "error": None, **best, "predictions": [best, second], "model_version": "3"}
    assert row == expected


def test_an_embedded_photo(bulk, one):
    """A list of fixed size, as vector databases read it."""
    table = bulk(one, "--embed")
    assert table.schema.field("features").type == pa.list_(pa.float32(), WIDTH)
    assert table["features"].to_pylist() == [[7.0] * WIDTH]


@pytest.mark.parametrize(("layout", "kind"), [(Layout(5, 0, 1000), "classes"), (Layout(None, 8, 1000), "`--embed`")])
def test_the_page_lists_the_columns(layout, kind):
    """docs/bulk.md says which columns there are, with and without `--embed`."""
    rows = re.findall(r"^\| (`.*`) \| (all|classes|`--embed`) \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    named = [name for names, where in rows if where in ("all", kind) for name in re.findall(r"`(\w+)`", names)]
    assert named == layout.schema().names


@pytest.mark.parametrize("arguments", [[], ["--embed"]])
def test_a_bad_photo_is_a_row_with_an_error(bulk, tmp_path, arguments):
    """In its place, its neighbours unharmed; the exit code tells."""
    for number in (1, 255, 3):
        (tmp_path / f"{number:03d}.png").write_bytes(bytes([number]))
    rows = bulk("*.png", *arguments, code=ExitCode.SOME_FAILED)
    assert rows["photo"].to_pylist() == ["001.png", "003.png", "255.png"]
    assert rows["error"].to_pylist() == [None, None, "this is no photo"]
    if arguments:
        missing = np.isnan(np.stack(rows["features"].to_numpy()))
        assert missing.all(axis=1).tolist() == missing.any(axis=1).tolist() == [False, False, True]
    else:
        assert rows["index"].to_pylist() == [1, 3, None]


def test_files_that_cannot_be_read(bulk, tmp_path):
    """Broken links, empty files and files that are too large have a sentence each; nothing of them is sent."""
    (tmp_path / "gone.jpg").symlink_to("nowhere")
    (tmp_path / "none.jpg").touch()
    with (tmp_path / "vast.jpg").open("wb") as file:
        file.truncate(33_554_433)
    errors = bulk("*.jpg", code=ExitCode.SOME_FAILED)["error"].to_pylist()
    assert errors[0] == "there is no such file"
    assert "0 bytes" in errors[1]
    assert "more than the 33554432 allowed" in errors[2]


def test_a_damaged_shard_gives_what_can_be_read(bulk, tmp_path):
    """And one row that says where it ends."""
    whole = write_tar(tmp_path / "whole.tar", range(1, 9)).read_bytes()
    (tmp_path / "cut.tar").write_bytes(whole[: 9 * 1024 + 100])
    rows = bulk("cut.tar", code=ExitCode.SOME_FAILED)
    assert rows["index"].to_pylist()[:-1] == [1, 2, 3, 4, 5]
    assert rows["photo"].to_pylist()[-1] == "cut.tar"
    assert "damaged after 5 photos" in rows["error"].to_pylist()[-1]


def test_a_file_that_only_claims_to_be_parquet(bulk, tmp_path, capsys):
    """It is refused before anything is sent."""
    (tmp_path / "in.parquet").write_bytes(b"no Parquet at all")
    bulk("in.parquet", code=ExitCode.USAGE)
    assert "no Parquet file" in capsys.readouterr().err


def test_servers_that_are_away_are_waited_for(bulk, one, served, monkeypatch):
    """Their failures are no photo's fault and get into no row."""
    monkeypatch.setattr(_asking, "_FIRST_PAUSE_S", 0.001)
    served.failures = [UnavailableError("gone"), OverloadedError("full"), ResponseError("dead"), ModelNotFoundError("")]
    assert bulk(one, "--max-attempts", 1)["error"].to_pylist() == [None]
    assert len(served.asked) == 5


def test_a_refused_request_is_a_row(bulk, one, served):
    """The server has said that it will not take this one."""
    served.failures = [RequestError("too odd")]
    assert bulk(one, code=ExitCode.SOME_FAILED)["error"].to_pylist() == ["too odd"]


def test_patience_ends(bulk, one, served, tmp_path):
    """When nobody is answered any more, the run ends, without rows for what was not asked."""
    served.failures = [UnavailableError("gone")] * 50
    bulk(one, "--max-attempts", 1, "--patience-s", 0, code=ExitCode.NOT_READY)
    assert not (tmp_path / "results.parquet").exists()
    served.failures.clear()
    assert bulk(one)["index"].to_pylist() == [7]


def test_one_photo_that_servers_fail_over_ends_nothing(bulk, tmp_path, served, monkeypatch):
    """While others are answered, it becomes a row with an error."""
    monkeypatch.setattr(_asking, "_FIRST_PAUSE_S", 0.01)
    answer = served.send

    def send(request, timeout_s):
        if getattr(request, "tensor", [[b"\1"]])[0][0][0] == 9:
            raise ResponseError("it fell over")
        return answer(request, timeout_s)

    served.send = send
    write_parquet(tmp_path / "in.parquet", [bytes([9])] + [bytes([1])] * 3000)
    rows = bulk("in.parquet", "--patience-s", 0.05, code=ExitCode.SOME_FAILED)
    assert rows["error"].to_pylist().count(None) == 3000
    assert rows["error"][0].as_py() == "it fell over"


def test_many_parts_become_one_file(bulk, tmp_path):
    """Row groups of a useful size, and nothing else left behind."""
    write_parquet(tmp_path / "in.parquet", [bytes([n % 200]) for n in range(500)], row_group_size=50)
    rows = bulk("in.parquet", "--part-size", 10)
    assert rows["index"].to_pylist() == [n % 200 for n in range(500)]
    assert pq.ParquetFile(tmp_path / "results.parquet").num_row_groups == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.parquet", "results.parquet"]


@pytest.mark.parametrize("arguments", [["--top-k", "0"], ["--part-size", "0"], ["--max-in-flight", "0"]])
def test_options_that_make_no_sense(bulk, one, arguments):
    """They are refused before anything is read."""
    bulk(one, *arguments, code=ExitCode.USAGE)


def test_a_model_without_features_cannot_embed(bulk, one, served, monkeypatch, capsys):
    """One sentence, at once."""
    monkeypatch.setattr(served, "send", lambda *_: {"outputs": []})
    bulk(one, "--embed", code=ExitCode.USAGE)
    assert "FEATURES__1" in capsys.readouterr().err


def test_the_extra_is_asked_for(bulk, one, monkeypatch, capsys):
    """Without it there is a sentence, and the rest of the client does without."""
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    bulk(one, code=ExitCode.USAGE)
    assert "pip install 'resnet50-triton[bulk]'" in capsys.readouterr().err
    script = "import sys, resnet_client.__main__; sys.exit(not {'pyarrow', 'fsspec', 'ray'}.isdisjoint(sys.modules))"
    assert subprocess.run([sys.executable, "-c", script], timeout=60, check=False).returncode == 0
