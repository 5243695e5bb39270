"""Whatever is put into a parser of the load test, it gives a value or refuses in its own words."""

import dataclasses
import io
import json
import math
import re
import sys
from contextlib import redirect_stderr, redirect_stdout

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st
from resnet_loadtest import server_metrics as metrics
from resnet_loadtest import slo
from resnet_loadtest.__main__ import main
from resnet_loadtest.analysis import Run, ServerSide
from resnet_loadtest.errors import LoadTestError, UsageError
from resnet_loadtest.generator_metrics import Gauge
from resnet_loadtest.options import Options, resolve, variable
from resnet_loadtest.report import document
from resnet_loadtest.samples import Fate
from resnet_loadtest.schedule import stages
from resnet_loadtest.server_metrics import Reading
from resnet_loadtest.workloads import WORKLOADS, parse_mix

from .conftest import samples_of, step_of

HOSTILE = st.sampled_from(
    ["", "\x00", "nan", "inf", "-1", "1e999", "9" * 5000, "٣", "[/]", "{{DATA}}", "\ud800", "\x1b[2J"]
)
TEXT = st.text(max_size=30) | HOSTILE
NUMBERS = st.integers() | st.floats() | st.sampled_from([2**70, -(2**70), 1e308, -0.0, 5e-324])
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)


def near(*parts):
    """Texts made of a grammar's own parts, which get further than random ones."""
    return st.lists(st.sampled_from(parts) | st.integers(0, 999).map(str), max_size=8).map("".join) | TEXT


def attempted(parse, *arguments):
    """What a parser gives, and its own words where it gives nothing."""
    try:
        return parse(*arguments), ""
    except LoadTestError as exc:
        return None, str(exc)


CLAUSES = near(
    "p99", "service_p", "mean", "max", "error_rate", "throughput", "<=", ">=", "<", ".", "ms", "s", "%", "/s", ","
)


@given(CLAUSES)
@example("p99.99999999999999999<=1ms")
@example("p0." + "0" * 400 + "1<=1ms")
@example("p99<=" + "9" * 400 + "s")
def test_objectives(text):
    """An objective that is read has a finite bound and a sample size, and reads the same again."""
    try:
        objectives = slo.parse(text)
    except ValueError:
        return
    for objective in objectives:
        assert 0 <= objective.bound < math.inf
        assert objective.smallest_sample >= 1
        assert slo.parse(objective.text) == (objective,)


@given(near(*WORKLOADS, "Mixed", "=", ",", " "))
@example("ClassifyGrpc=" + "9" * 5000)
@example("ClassifyGrpc=²")
def test_mixes(text):
    """A mix that is read has known users, each with a weight."""
    try:
        mix = parse_mix(text)
    except UsageError:
        return
    assert mix.keys() <= WORKLOADS.keys()
    assert parse_mix(",".join(f"{name}={weight}" for name, weight in mix.items())) == mix


@given(
    st.sampled_from([field.name for field in dataclasses.fields(Options)]),
    near("20", "/s", "s", "m", "h", ".", "auto", "yes", "-", "e", "poisson", "_", " "),
)
@example("duration_s", "9" * 400)
@example("spawn_rate", "nan")
@example("warm_up_s", "-1")
@example("seed", "-1")
@example("seed", "9" * 5000)
def test_options(name, text):
    """Any text for any option gives options of finite numbers, or a sentence that names flag or variable."""
    assume(not text.startswith("dns:"))  # would ask a name server
    for arguments, environment, source in (
        ({name: text}, {}, name.replace("_", "-")),
        ({}, {variable(name): text}, name),
    ):
        options, refusal = attempted(resolve, arguments, environment)
        if options is None:
            assert source.upper() in refusal.upper()
            continue
        numbers = [value for value in vars(options).values() if isinstance(value, float) and value != options.rate]
        assert all(0 <= value < math.inf for value in numbers)


@given(near("grpc", "http", "s", "://", "localhost", "[::1]", ":", "/", "@", "dns:///"))
@example("grpc://host:123456")
@example("grpc://host:" + "9" * 5000)
@example("http://host:65535")
@example("grpc://:8001")
def test_urls(url):
    """The three addresses follow from any URL, or it is refused."""
    for kind in ("grpc", "http", "metrics"):
        try:
            found = Options(url=url).url_for(kind)
        except UsageError:
            continue
        assert re.match(r"(grpc|http)s?://.", found)


NAMES = ("nv_cpu_utilization", "nv_gpu_utilization", "nv_inference_request_failure", "model", "reason", "gpu_uuid")
LINES = near(*NAMES, "{", "}", '="', '"', ",", " ", "NaN", "+Inf", "e", "-", "\\", "\n")


@given(LINES)
@example("nv_cpu_utilization 1e")
@example("nv_inference_request_failure{} 1e999")
@example('nv_inference_request_failure{model="a' + '\\"' * 2000)
def test_metrics(text):
    """Any page gives finite values; what cannot be read is left out."""
    assert all(math.isfinite(value) for value in metrics.gauges(text).values())
    assert all(isinstance(count, int) for count in metrics.failures(text).values())


LABELS = st.text(st.characters(exclude_categories=("Cs", "Cc", "Zl", "Zp")), max_size=10)


@given(st.dictionaries(LABELS, st.integers(1, 9), max_size=4), st.floats(0, 1))
def test_metrics_are_read_as_they_were_written(failed, utilization):
    """Prometheus' own escapes are understood, so that no name of a model spoils the counts of another."""
    escaped = {name: name.replace("\\", "\\\\").replace('"', '\\"') for name in failed}
    lines = [
        f'nv_inference_request_failure{{model="{escaped[name]}",reason="OTHER"}} {n}' for name, n in failed.items()
    ]
    text = "\n".join(["# HELP nv_cpu_utilization x", f"nv_cpu_utilization {utilization}", *lines])
    assert metrics.gauges(text) == {"nv_cpu_utilization": utilization}
    assert metrics.failures(text) == {(name, "OTHER"): n for name, n in failed.items()}


def finished_run():
    """A small run in which nothing is empty."""
    fates = [Fate.OVERLOADED] * 3 + [Fate.OK] * 90
    samples = samples_of([0.01 + i / 1000 for i in range(93)], fates=fates, spacing_s=0.02)
    options = Options(rate=50.0, duration_s=2.0, slo="p90<=100ms,error_rate<=5%", profile="steps", name="fuzz")
    steps = {"preprocess": step_of("preprocess", 90), "network_onnx": step_of("network_onnx", 90, batch=2)}
    readings = (Reading(0.5, {"nv_cpu_utilization": 0.5}), Reading(1.5, {"nv_cpu_utilization": 0.7}))
    server = ServerSide(
        "triton 2.51.0", steps, (steps,) * 5, {"resnet50": ""}, frozenset(), readings, {("preprocess", "OTHER"): 1}, "-"
    )
    gauges = [Gauge(0, second + 1.0, 0.1, 0.2, 10**8, 1.0) for second in range(61)]
    return Run(options, "2026-01-01T00:00:00+00:00", stages("steps", 50.0, 2.0), samples, gauges, server)


GOOD = document.document(finished_run())


@st.composite
def spoilt(draw):
    """The document of a run with one to three values replaced or taken away."""
    spoilt = json.loads(json.dumps(document._finite(GOOD)))
    for _ in range(draw(st.integers(1, 3))):
        node = spoilt["raw"]
        while True:
            key = draw(st.sampled_from(sorted(node) if isinstance(node, dict) else range(len(node))))
            if isinstance(node[key], dict | list) and node[key] and draw(st.integers(0, 4)):
                node = node[key]
                continue
            if draw(st.integers(0, 3)):
                node[key] = draw(JSON)
            else:
                del node[key]
            break
    return spoilt


def outcome(*arguments):
    """Exit code and error of the command."""
    errors = io.StringIO()
    with redirect_stdout(io.StringIO()), redirect_stderr(errors):
        code = main([str(argument) for argument in arguments])
    return code, errors.getvalue()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where the documents lie."""
    folder = tmp_path_factory.mktemp("documents")
    document.write(finished_run(), folder / "good.json")
    return folder


def check_document(folder, content):
    """Report it and compare with it: exit codes and sentences, never a traceback."""
    path = folder / "spoilt.json"
    path.write_bytes(content)
    code, error = outcome("report", path)
    assert code in (0, 1, 2) or (code == 64 and "spoilt.json is no report of resnet-loadtest: " in error)
    refused = code == 64
    path.write_bytes(content)
    for pair in ((folder / "good.json", path), (path, folder / "good.json")):
        code, error = outcome("compare", *pair)
        assert code in (0, 1, 2) if not refused else (code, "spoilt.json" in error) == (64, True)


@settings(max_examples=max(20, settings.default.max_examples // 10), suppress_health_check=[HealthCheck.too_slow])
@given(spoilt())
def test_documents_of_runs(folder, spoilt):
    """A document that somebody changed is reported and compared, or refused with its name and a reason."""
    check_document(folder, json.dumps(spoilt).encode())


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff",
        b"{",
        b"[]",
        b"null",
        b"[" * 100_000,
        b"9" * 5000,
        b'{"schema": []}',
        b'{"schema": "resnet-loadtest/2"}',
    ],
    ids=range(9),
)
def test_documents_that_are_none(folder, content):
    """Other files are refused, too."""
    check_document(folder, content)


def changed(**values):
    """The document with some values of its raw part replaced, by dotted name."""
    document_ = json.loads(json.dumps(document._finite(GOOD)))
    for name, value in values.items():
        *way, last = name.split("__")
        node = document_["raw"]
        for step in way:
            node = node[int(step) if step.isdecimal() else step]
        node[int(last) if last.isdecimal() else last] = value
    return json.dumps(document_).encode()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("stages__0__name", "[/red]{{DATA}}<img src=x>"),
        ("options__model", "[/]"),
        ("stages__0__duration_s", 1e300),
        ("stages__0__duration_s", 0),
        ("stages", []),
        ("gauges__0__4", 0),
        ("samples__rows", 10**15),
        ("samples__columns__fate", "eJw="),
        ("options__slo", "p99<=soon"),
        ("server__note", "\x1b[2J"),
        ("server__steps__0__batch_sizes", {"x": 1}),
    ],
)
def test_documents_with_a_trap(folder, name, value):
    """What once broke a report."""
    check_document(folder, changed(**{name: value}))


def test_a_column_cannot_be_a_bomb(folder):
    """Some kilobytes of text that stand for a gigabyte are refused before they become one."""
    import base64
    import tracemalloc
    import zlib

    packer = zlib.compressobj(9)
    bomb = b"".join([*(packer.compress(bytes(1 << 20)) for _ in range(200)), packer.flush()])
    (folder / "bomb.json").write_bytes(changed(samples__columns__done_s=base64.b64encode(bomb).decode()))
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="a column has not 93 rows"):
            document.read(folder / "bomb.json")
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


def test_a_page_is_filled_in_one_go(folder):
    """A name that looks like a place of the page's template stays a name, and no name makes an element."""
    path = folder / "named.json"
    path.write_bytes(changed(options__model="{{DATA}}", server__steps__0__model="<img src=x onerror=alert(1)>"))
    assert outcome("report", path)[0] in (0, 1, 2)
    page = path.with_suffix(".html").read_text()
    assert "<img" not in page
    assert "<title>{{DATA}}" in page
    assert sys.getsizeof(page) < 20 << 20
