"""Runs as JSON: written, read again, and refused where they are damaged."""

import base64
import json
import math
import tracemalloc
import zlib

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from resnet_loadtest import records
from resnet_loadtest.__main__ import main
from resnet_loadtest.analysis import Run, Verdict
from resnet_loadtest.errors import UsageError
from resnet_loadtest.options import Options
from resnet_loadtest.samples import Status
from resnet_loadtest.schedule import stages
from resnet_loadtest.search import Result, Trial
from resnet_loadtest.server_metrics import Reading, ServerSide
from strategies import JSON

from .conftest import measured, run_of, samples_of, step_of


def finished_run():
    """A small run in which nothing is empty."""
    statuses = [Status.OVERLOADED] * 3 + [Status.OK] * 90
    samples = samples_of([0.01 + i / 1000 for i in range(93)], statuses=statuses, spacing_s=0.02)
    options = Options(rate=50.0, duration_s=2.0, slo="p90<=100ms,error_rate<=5%", profile="steps", name="records")
    steps = {"preprocess": step_of("preprocess", 90), "network_onnx": step_of("network_onnx", 90, batch=2)}
    readings = (Reading(0.5, {"nv_cpu_utilization": 0.5}), Reading(1.5, {"nv_cpu_utilization": 0.7}))
    failures = {"preprocess": {"OTHER": 1}}
    server = ServerSide(
        "triton 2.51.0", steps, (steps,) * 5, {"preprocess": ""}, frozenset({"resnet50"}), readings, failures, "-"
    )
    course = stages("steps", 50.0, 2.0)
    return Run(options, "2026-01-01T00:00:00+00:00", course, samples, measured(range(61)), server)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with the file of a run."""
    folder = tmp_path_factory.mktemp("records")
    records.write(finished_run(), folder / "good.json")
    return folder


@pytest.fixture(scope="module")
def good(folder):
    """The content of that file."""
    return json.loads((folder / "good.json").read_text())


def changed(document, name, value):
    """The document with one value of its raw part replaced, by dotted name."""
    changed = json.loads(json.dumps(document))
    *way, last = (int(part) if part.isdecimal() else part for part in name.split("."))
    node = changed["raw"]
    for part in way:
        node = node[part]
    node[last] = value
    return json.dumps(changed).encode()


def test_read_returns_what_write_wrote(folder):
    """The same samples bit by bit, the same verdict, and the same file when it is written again."""
    run, again = finished_run(), records.read(folder / "good.json")
    assert again.samples.tobytes() == run.samples.tobytes()
    assert (again.options, again.stages, again.generator) == (run.options, run.stages, run.generator)
    assert again.verdict is run.verdict is Verdict.PASS
    records.write(again, folder / "again.json")
    assert (folder / "again.json").read_bytes() == (folder / "good.json").read_bytes()


def test_write_has_null_for_infinite_times(tmp_path):
    """JSON has neither infinity nor NaN."""
    statuses = [Status.OVERLOADED] * 50 + [Status.OK] * 50
    records.write(run_of(samples_of([0.01] * 100, statuses=statuses)), tmp_path / "run.json")
    text = (tmp_path / "run.json").read_text()
    whole = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))["whole"]
    assert whole["response_s"]["p99"]["value"] is None
    assert whole["service_s"]["p50"]["value"] == pytest.approx(0.01)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"schema": "resnet-loadtest/2"}', "another version ('resnet-loadtest/2' instead of 'resnet-loadtest/3')"),
        (b'{"schema": "resnet-loadtest-search/2"}', "report of a search (find-slo); expected the report of a run"),
        *(
            (content, "")
            for content in (b"", b"\xff", b"{", b"[]", b"null", b"[" * 100_000, b"9" * 5000, b'{"raw": {}}')
        ),
    ],
    ids=range(10),
)
def test_read_refuses_other_files(tmp_path, content, message):
    """Those of another version before it looks at the rest, which may differ; all with a message."""
    (tmp_path / "other.json").write_bytes(content)
    with pytest.raises(UsageError) as refused:
        records.read(tmp_path / "other.json")
    assert "other.json is not the report of a run: " in str(refused.value)
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("options.url", 5, "raw.options.url: Input should be a valid string"),
        ("options.seed", "1", "raw.options.seed: Input should be a valid integer"),
        ("options.rate", None, "expected either --rate RATE"),
        ("options.slo", "p99<=soon", "invalid --slo 'p99<=soon'"),
        ("options.mix", "Unknown", "invalid --mix 'Unknown'"),
        ("options.extra", 1, "raw.options.extra: Unexpected keyword argument"),
        ("stages", [], "stages are missing"),
        ("stages.0.duration_s", 0, "a stage has an impossible time"),
        ("stages.0.duration_s", 1e300, "a stage has an impossible time"),
        ("generator.0.rss_bytes", 0, "the memory of a generator is not positive"),
        ("samples", 3, "raw.samples: the table of samples is damaged"),
        ("samples.rows", -1, "raw.samples: the table of samples is damaged"),
        ("samples.rows", 10**15, "raw.samples: the table of samples does not have"),
        ("samples.zlib_base64", "eJw=", "raw.samples: the table of samples does not have 93 rows"),
        ("samples.zlib_base64", "AAAA", "raw.samples: the table of samples is damaged"),
        ("server.note", "\x1b[2J", "a name contains control characters"),
        ("server.steps.preprocess.batch_sizes", {"x": 1}, "raw.server.steps.preprocess.batch_sizes.x"),
    ],
)
def test_read_names_the_damage(folder, good, name, value, message):
    """The file, and the place of the first error in it."""
    (folder / "damaged.json").write_bytes(changed(good, name, value))
    with pytest.raises(UsageError) as refused:
        records.read(folder / "damaged.json")
    assert f"damaged.json is not the report of a run: {message}" in str(refused.value)


@pytest.mark.parametrize("status", [9, 255])
def test_read_refuses_impossible_samples(folder, good, status):
    """A status that is none; a time before the run began; a response before its request."""
    for column, value in (("status", status), ("intended_s", -1.0), ("done_s", 0.0), ("done_s", math.inf)):
        samples = finished_run().samples.copy()
        samples[column][50] = value
        packed = base64.b64encode(zlib.compress(samples.tobytes())).decode()
        (folder / "samples.json").write_bytes(changed(good, "samples.zlib_base64", packed))
        with pytest.raises(UsageError, match="a sample has an impossible time or status"):
            records.read(folder / "samples.json")


def test_read_refuses_samples_that_expand_to_gigabytes(folder, good):
    """Some kilobytes of text that stand for a gigabyte are refused before they become one."""
    packer = zlib.compressobj(9)
    bomb = b"".join([*(packer.compress(bytes(1 << 20)) for _ in range(200)), packer.flush()])
    (folder / "bomb.json").write_bytes(changed(good, "samples.zlib_base64", base64.b64encode(bomb).decode()))
    tracemalloc.start()
    try:
        with pytest.raises(UsageError, match="does not have 93 rows"):
            records.read(folder / "bomb.json")
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


def check_commands(folder, content, capsys):
    """Report it and compare with it: exit codes and messages, never a traceback."""

    def command(*arguments):
        code = main([str(argument) for argument in arguments])
        return code, capsys.readouterr().err

    path = folder / "spoilt.json"
    path.write_bytes(content)
    code, error = command("report", path)
    refused = code == 64 and "spoilt.json is not the report of a run: " in error
    assert refused or code in (0, 1, 2)
    path.write_bytes(content)
    for pair in ((folder / "good.json", path), (path, folder / "good.json")):
        code, error = command("compare", *pair)
        assert (code, "spoilt.json" in error) == (64, True) if refused else code in (0, 1, 2)


@st.composite
def spoilt(draw):
    """A way to spoil a document: one to three places, each with another value or none."""
    return [
        (draw(st.randoms(use_true_random=False)), draw(JSON), draw(st.booleans()))
        for _ in range(draw(st.integers(1, 3)))
    ]


def spoil(document, changes):
    """Apply the changes somewhere in the raw part."""
    document = json.loads(json.dumps(document))
    for random, value, deletes in changes:
        node = document["raw"]
        while True:
            key = random.choice(sorted(node) if isinstance(node, dict) else range(len(node)))
            if not (isinstance(node[key], dict | list) and node[key] and random.random() < 0.8):
                break
            node = node[key]
        if deletes:
            del node[key]
        else:
            node[key] = value
    return document


@settings(
    max_examples=max(20, settings.default.max_examples // 10),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(changes=spoilt())
def test_commands_survive_spoilt_records(folder, good, capsys, changes):
    """A changed file is reported and compared, or refused with its name and a reason."""
    check_commands(folder, json.dumps(spoil(good, changes)).encode(), capsys)


def test_write_search_lists_each_trial(tmp_path):
    """Each trial with its metrics; a bound that is not known is null."""
    run = run_of(samples_of([0.01] * 500), options=Options(rate=100.0, duration_s=10.0, slo="p90<=20ms"))
    result = Result(run.options, [Trial(1, 100.0, run)], (100.0, 100.0, math.inf), "search 1 met it at every rate")
    records.write_search(result, tmp_path / "search.json")
    document = json.loads((tmp_path / "search.json").read_text())
    assert document["found"] == {"rate_per_s": 100.0, "lower_per_s": 100.0, "upper_per_s": None}
    assert document["trials"][0]["verdict"] == "PASS"
    assert document["trials"][0]["whole"]["response_s"]["p99"]["value"] == pytest.approx(0.01)
    assert document["warning"]


def test_read_accepts_a_closed_loop_run(stub, stub_test, tmp_path):
    """Its users exist before the run begins, and send nothing until then."""
    _, output, plain = stub_test("--url", stub(), "--users", "3", "--duration", "1s")
    assert records.read(tmp_path / "run.json").whole.requests == plain["whole"]["requests"] > 0, output
