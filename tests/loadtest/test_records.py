"""Runs as JSON: written, read again, and refused where they are damaged."""

import functools
import json
import math
import operator
import resource

import pytest
from resnet_loadtest import records
from resnet_loadtest.analysis import Verdict
from resnet_loadtest.errors import UsageError
from resnet_loadtest.options import Options
from resnet_loadtest.samples import Status, merged
from resnet_loadtest.search import Bracket, Result, Trial
from resnet_loadtest.server_metrics import Reading

from .conftest import run_of, samples_of, step_of


def finished_run():
    """A small run in which nothing is empty."""
    statuses = [Status.OVERLOADED] * 3 + [Status.OK] * 90
    samples = samples_of([0.01 + i / 1000 for i in range(93)], statuses=statuses, spacing_s=0.02)
    options = Options(rate=50.0, duration_s=2.0, slo="p90<=100ms,error_rate<=5%", profile="steps", name="records")
    steps = {"resnet50": step_of("resnet50", 90), "network_onnx": step_of("network_onnx", 90, batch=2)}
    readings = (Reading(0.5, {"nv_cpu_utilization": 0.5}), Reading(1.5, {"nv_cpu_utilization": 0.7}))
    return run_of(samples, options=options, steps=steps, readings=readings, ensembles=frozenset({"resnet50"}), note="-")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with the file of a run."""
    folder = tmp_path_factory.mktemp("records")
    records.write(finished_run(), folder / "good.json")
    return folder


def damaged(folder, name, value):
    """Replace one value of the raw part, by dotted name; gives the path of the new file."""
    document = json.loads((folder / "good.json").read_text())
    *way, last = name.split(".")
    functools.reduce(operator.getitem, way, document["raw"])[last] = value
    (folder / "damaged.json").write_text(json.dumps(document))
    return folder / "damaged.json"


def test_read_returns_what_write_wrote(folder):
    """The same samples bit by bit, the same verdict, and the same file when it is written again."""
    run, again = finished_run(), records.read(folder / "good.json")
    assert again.samples.tobytes() == run.samples.tobytes()
    assert (again.options, again.stages, again.generator) == (run.options, run.stages, run.generator)
    assert again.verdict is run.verdict is Verdict.PASS
    records.write(again, folder / "again.json")
    assert (folder / "again.json").read_bytes() == (folder / "good.json").read_bytes()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"schema": "resnet-loadtest/2"}', "schema: Input should be 'resnet-loadtest/5'"),
        (b"\xff", ""),
        (b"[]", ""),
    ],
)
def test_read_refuses_other_files(tmp_path, content, message):
    """Those of another version before it looks at the rest, which may differ; all with a message."""
    (tmp_path / "other.json").write_bytes(content)
    with pytest.raises(UsageError) as refused:
        records.read(tmp_path / "other.json")
    assert (
        str(refused.value).endswith("other.json is not the report of a run by this version: " + message) or not message
    )


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("options.url", 5, "raw.options.url: Input should be a valid string"),
        ("options.extra", 1, "raw.options.extra: Unexpected keyword argument"),
        ("samples.rows", 10**15, "raw.samples: Value error, the table of samples is damaged"),
        ("samples.zlib_base64", "AAAA", "raw.samples: Value error, the table of samples is damaged"),
        ("server.steps.resnet50.batch_sizes", {"x": 1}, "raw.server.steps.resnet50.batch_sizes.x"),
    ],
)
def test_read_names_the_damage(folder, name, value, message):
    """The file, and the place of the first error in it."""
    with pytest.raises(UsageError, match=rf"damaged\.json is not the report of a run.*: {message}"):
        records.read(damaged(folder, name, value))


def test_recorder_on_a_full_disk_writes_later_what_it_could_not(tmp_path):
    """A limit on the size of files stands for the full disk; all samples are read, even if the last line is cut off."""
    parts = [run_of(samples_of([0.01] * 100)), run_of(samples_of([0.02] * 200)), run_of(samples_of([0.03] * 50))]
    partial = tmp_path / "run.partial"
    recorder = records.Recorder(partial)
    recorder.append(parts[0])
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (partial.stat().st_size + 100, limits[1]))
    try:
        recorder.append(parts[1])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert len(records.read(partial).samples) == 100
    recorder.append(parts[2])
    expected = merged(part.samples for part in parts)
    assert records.read(partial).samples.tolist() == expected.tolist()
    recorder.delete()
    assert not partial.exists()


def test_write_search_lists_each_trial(tmp_path):
    """Each trial with its metrics; a bound that is not known is null."""
    statuses = [Status.OVERLOADED] * 6 + [Status.OK] * 494  # there is no p99, and JSON has no infinity
    options = Options(rate=100.0, duration_s=10.0, slo="p90<=20ms")
    run = run_of(samples_of([0.01] * 500, statuses=statuses), options=options)
    result = Result(run.options, [Trial(1, 100.0, run)], [Bracket(100.0, math.inf)])
    records.write_search(result, tmp_path / "search.json")
    text = (tmp_path / "search.json").read_text()
    document = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert document["found"] == {"rate_per_s": 100.0, "lower_per_s": 100.0, "upper_per_s": None}
    assert document["trials"][0]["verdict"] == "PASS"
    response_s = document["trials"][0]["whole"]["response_s"]
    assert (response_s["p90"]["value"], response_s["p99"]["value"]) == (pytest.approx(0.01), None)
    assert document["warning"]
