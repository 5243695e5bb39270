"""What a row holds, for valid and invalid images, and what ends a run."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from resnet_client import ModelNotFoundError, OverloadedError, RequestError, ResponseError
from resnet_client.cli.exit_codes import ExitCode

from .conftest import UNAVAILABLE, write_parquet, write_tar

PAGE = Path(__file__).resolve().parents[3] / "docs/bulk.md"
INTERNAL = ResponseError("it fell over")


@pytest.fixture
def one(tmp_path):
    (tmp_path / "7.jpg").write_bytes(b"\7")
    return "7.jpg"


def test_bulk_writes_a_row_of_classes(bulk, one, stub):
    """The best class, all that were requested, and the version of the model."""
    stub.probabilities = (0.5, 0.25)
    (row,) = bulk(one, "--top-k", 2).to_pylist()
    best = {"index": 7, "label": "label 7", "probability": 0.5}
    second = {"index": 8, "label": "label 8", "probability": 0.25}
    expected = {"image": "7.jpg", "error": None, **best, "predictions": [best, second], "model_version": "1"}
    assert row == expected


def test_bulk_writes_a_row_of_features(bulk, one, stub):
    """A list of fixed size, as vector databases read it."""
    table = bulk(one, "--embed")
    assert table.schema.field("features").type == pa.list_(pa.float32(), stub.width)
    assert table["features"].to_pylist() == [[7.0] * stub.width]


@pytest.mark.parametrize(("arguments", "kind"), [([], "classes"), (["--embed"], "`--embed`")])
def test_bulk_writes_the_columns_of_the_documentation(bulk, one, arguments, kind):
    """docs/bulk.md names the columns, with and without `--embed`."""
    rows = re.findall(r"^\| (`.*`) \| (all|classes|`--embed`) \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    named = [name for names, where in rows if where in ("all", kind) for name in re.findall(r"`(\w+)`", names)]
    assert named == bulk(one, *arguments).schema.names


@pytest.mark.parametrize("arguments", [[], ["--embed"]])
def test_bulk_writes_a_row_with_an_error_for_an_invalid_image(bulk, tmp_path, arguments):
    """In its place, its neighbours unharmed; the exit code shows it."""
    for number in (1, 255, 3):
        (tmp_path / f"{number:03d}.png").write_bytes(bytes([number]))
    rows = bulk("*.png", *arguments, code=ExitCode.SOME_FAILED)
    assert rows["image"].to_pylist() == ["001.png", "003.png", "255.png"]
    assert rows["error"].to_pylist() == [None, None, "the image is damaged"]
    if arguments:
        missing = np.isnan(np.stack(rows["features"].to_numpy()))
        assert missing.all(axis=1).tolist() == missing.any(axis=1).tolist() == [False, False, True]
    else:
        assert rows["index"].to_pylist() == [1, 3, None]


def test_bulk_sends_no_unreadable_files(bulk, tmp_path, stub):
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
    assert not stub.received


SIXTH = 5 * 2048  # where the sixth image of an archive begins


def cut_header(content):
    return content[: SIXTH + 100]


def cut_content(content):
    return content[: SIXTH + 513]


def damage_header(content):
    """Overwrite the header of the sixth image, which tarfile takes for the end of the archive."""
    return content[:SIXTH] + b"?" * 512 + content[SIXTH + 512 :]


@pytest.mark.parametrize("damage", [cut_header, cut_content, damage_header])
def test_bulk_reads_a_damaged_archive_as_far_as_it_can(bulk, tmp_path, damage):
    """And one row with the place of the damage."""
    whole = write_tar(tmp_path / "whole.tar", range(1, 9)).read_bytes()
    (tmp_path / "cut.tar").write_bytes(damage(whole))
    rows = bulk("cut.tar", code=ExitCode.SOME_FAILED)
    assert rows["index"].to_pylist()[:-1] == [1, 2, 3, 4, 5]
    assert rows["image"].to_pylist()[-1] == "cut.tar"
    assert "damaged after 5 images" in rows["error"].to_pylist()[-1]


@pytest.mark.parametrize("kind", ["gz", "bz2", "xz"])
def test_bulk_reports_damage_of_a_compressed_archive(bulk, tmp_path, kind):
    name = f"a.tar.{kind}"
    whole = bytearray(write_tar(tmp_path / name, range(1, 200), f"w:{kind}").read_bytes())
    whole[len(whole) // 2 :] = b"?" * (len(whole) - len(whole) // 2)
    (tmp_path / name).write_bytes(whole)
    rows = bulk(name, code=ExitCode.SOME_FAILED)
    assert rows["image"].to_pylist()[-1] == name
    assert "the archive is damaged after" in rows["error"].to_pylist()[-1]


@pytest.fixture
def hasty(monkeypatch):
    monkeypatch.setattr("time.sleep", lambda _: None)


@pytest.mark.usefixtures("hasty")
def test_bulk_waits_for_unavailable_servers(bulk, one, stub):
    """Their failures get into no row."""
    stub.failures = [UNAVAILABLE, OverloadedError("queue full"), INTERNAL, ModelNotFoundError("no model")]
    assert bulk(one, "--max-attempts", 1)["error"].to_pylist() == [None]
    assert len(stub.received) == 5


@pytest.mark.usefixtures("hasty")
def test_bulk_loses_no_row_in_an_outage(bulk, folder, stub):
    """Images that were in flight are sent again; the order stays."""
    stub.fail = lambda *_: UNAVAILABLE if 5 < len(stub.received) <= 15 else None
    rows = bulk("images", "--max-attempts", 1)
    assert rows["error"].null_count == 25
    assert rows["index"].to_pylist() == list(range(1, 26))
    assert len(stub.received) == 35


def test_bulk_writes_a_row_for_a_refused_request(bulk, one, stub):
    stub.failures = [RequestError("too odd")]
    (error,) = bulk(one, code=ExitCode.SOME_FAILED)["error"].to_pylist()
    assert "too odd" in error


def test_bulk_ends_when_servers_stay_unavailable(bulk, one, stub, tmp_path):
    """After the timeout, without rows for images that were not answered."""
    stub.fail = lambda *_: UNAVAILABLE
    bulk(one, "--max-attempts", 1, "--unavailable-timeout-s", 0, code=ExitCode.NOT_READY)
    assert not (tmp_path / "results.parquet").exists()
    stub.fail = lambda *_: None
    assert bulk(one)["index"].to_pylist() == [7]


def test_bulk_goes_on_after_an_image_that_servers_fail_on(bulk, tmp_path, stub):
    """While the model answers others, it becomes a row with an error."""
    stub.fail = lambda _, content: INTERNAL if content[0] == 9 else None
    write_parquet(tmp_path / "in.parquet", [bytes([9])] + [bytes([1])] * 100)
    rows = bulk("in.parquet", "--unavailable-timeout-s", 0.05, code=ExitCode.SOME_FAILED)
    assert rows["error"].to_pylist().count(None) == 100
    assert "it fell over" in rows["error"][0].as_py()


def test_bulk_writes_one_file(bulk, tmp_path):
    """Row groups of a useful size, and nothing else left behind."""
    write_parquet(tmp_path / "in.parquet", [bytes([n % 200]) for n in range(500)], row_group_size=50)
    rows = bulk("in.parquet", "--part-size", 10)
    assert rows["index"].to_pylist() == [n % 200 for n in range(500)]
    assert pq.ParquetFile(tmp_path / "results.parquet").num_row_groups == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.parquet", "results.parquet"]


@pytest.mark.parametrize("arguments", [["--top-k", "0"], ["--part-size", "0"], ["--max-in-flight", "0"]])
def test_bulk_refuses_options_out_of_range(bulk, one, tmp_path, arguments):
    with pytest.raises(SystemExit, match=str(ExitCode.USAGE.value)):
        bulk(one, *arguments)
    assert [path.name for path in tmp_path.iterdir()] == [one]


def test_bulk_refuses_an_output_in_a_missing_folder(bulk, one, capsys):
    bulk(one, output="nowhere/results.parquet", code=ExitCode.USAGE)
    assert capsys.readouterr().err.startswith("resnet-client: nowhere")


def test_bulk_refuses_to_embed_without_features(bulk, one, stub, capsys):
    stub.outputs = []
    bulk(one, "--embed", code=ExitCode.USAGE)
    assert "FEATURES__1" in capsys.readouterr().err


def test_bulk_names_a_missing_extra(one, tmp_path):
    """Without it there is one message, and the rest of the client works."""
    script = "import sys; sys.modules['pyarrow'] = None; from resnet_client.__main__ import main; sys.exit(main())"
    command = [sys.executable, "-c", script, "bulk", one, "--output", "results.parquet"]
    ended = subprocess.run(command, cwd=tmp_path, timeout=60, check=False, capture_output=True, text=True)
    assert ended.returncode == ExitCode.USAGE
    assert "pip install '.[bulk]' in the project's folder" in ended.stderr
    assert ended.stderr.count("\n") == 1
    script = "import sys, resnet_client.__main__; sys.exit(not {'pyarrow', 'fsspec', 'ray'}.isdisjoint(sys.modules))"
    assert subprocess.run([sys.executable, "-c", script], timeout=60, check=False).returncode == 0
