"""Whatever is put into a parser of the load test, it returns a value or refuses with its own message."""

import dataclasses
import math
import re

from hypothesis import assume, example, given
from hypothesis import strategies as st
from resnet_loadtest import slo
from resnet_loadtest.errors import LoadTestError, UsageError
from resnet_loadtest.options import Options, resolve, variable
from resnet_loadtest.server_metrics import parse_failures, parse_values
from resnet_loadtest.workloads import WORKLOADS, parse_mix

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
    """What a parser returns, and its message where it returns nothing."""
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
    """A valid objective has a finite bound and a sample size, and its text gives the same again."""
    try:
        objectives = slo.parse(text)
    except UsageError:
        return
    for objective in objectives:
        assert 0 <= objective.bound < math.inf
        assert objective.smallest_sample >= 1
        assert slo.parse(objective.text) == (objective,)


@given(near(*WORKLOADS, "Mixed", "=", ",", " "))
@example("ClassifyGrpc=" + "9" * 5000)
@example("ClassifyGrpc=²")
def test_mixes(text):
    """A valid mix has known users, each with a weight."""
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
    """Any text for any option gives options of finite numbers, or a message that names flag or variable."""
    assume(not text.startswith("dns:"))  # would ask a name server
    for arguments, environment, source in (
        ({name: text}, {}, "--" + name.removesuffix("_s").replace("_", "-")),
        ({}, {variable(name): text}, variable(name)),
    ):
        options, refusal = attempted(resolve, arguments, environment)
        if options is None:
            assert f"invalid {source} " in refusal
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
    assert all(math.isfinite(value) for value in parse_values(text).values())
    assert all(isinstance(count, int) for counts in parse_failures(text).values() for count in counts.values())


LABELS = st.text(st.characters(exclude_categories=("Cs", "Cc", "Zl", "Zp")), max_size=10)


@given(st.dictionaries(LABELS, st.integers(1, 9), max_size=4), st.floats(0, 1))
def test_metrics_are_read_as_they_were_written(failed, utilization):
    """Prometheus' own escapes are understood, so that no model's name changes the counts of another."""
    escaped = {name: name.replace("\\", "\\\\").replace('"', '\\"') for name in failed}
    lines = [
        f'nv_inference_request_failure{{model="{escaped[name]}",reason="OTHER"}} {n}' for name, n in failed.items()
    ]
    text = "\n".join(["# HELP nv_cpu_utilization x", f"nv_cpu_utilization {utilization}", *lines])
    assert parse_values(text) == {"nv_cpu_utilization": utilization}
    assert parse_failures(text) == {name: {"OTHER": n} for name, n in failed.items()}
