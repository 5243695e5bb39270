"""The grammar of objectives."""

import math

import pytest
from hypothesis import example, given
from resnet_loadtest.errors import UsageError
from resnet_loadtest.metrics import of_run
from resnet_loadtest.samples import Status
from resnet_loadtest.schedule import stages
from resnet_loadtest.slo import parse
from strategies import near

from .conftest import samples_of

CLAUSES = near(
    "p99", "service_p", "mean", "max", "error_rate", "throughput", "<=", ">=", "<", ".", "ms", "s", "%", "/s", ","
)


def test_parse_reads_each_clause():
    """Three clauses, each in its own unit."""
    latency, errors, throughput = parse("p99<=150ms, error_rate<=0.1%, throughput>=15/s")
    assert (latency.metric, latency.percent, latency.bound) == ("response", 99.0, pytest.approx(0.15))
    assert errors.bound == pytest.approx(0.001)
    assert (throughput.sign, throughput.bound) == (">=", 15.0)


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("p99", "expected for example"),
        ("p99<=150", "unit must be"),
        ("p99>=150ms", "needs <="),
        ("throughput<=5/s", "needs >="),
        ("p0<=1ms", "between 0 and 100"),
        ("p100<=1ms", "use max"),
        ("speed<=1ms", "unknown metric"),
        ("p99<=1.2.3ms", "not a number"),
        ("error_rate<=1ms", "unit must be"),
    ],
)
def test_parse_refuses_with_a_hint(text, hint):
    """The message quotes the clause and names what is expected."""
    with pytest.raises(UsageError, match=hint):
        parse(text)


@given(CLAUSES)
@example("p99.99999999999999999<=1ms")
@example("p0." + "0" * 400 + "1<=1ms")
@example("p99<=" + "9" * 400 + "s")
def test_parse_survives_any_text(text):
    """A valid objective has a finite bound and a sample size, and its text gives the same again."""
    try:
        objectives = parse(text)
    except UsageError:
        return
    for objective in objectives:
        assert 0 <= objective.bound < math.inf
        assert objective.smallest_sample >= 1
        assert parse(objective.text) == (objective,)


@pytest.mark.parametrize(
    ("failed", "clause", "value"),
    [
        (3, "p95<=1s", 0.01),
        (3, "p99<=1s", math.inf),
        (3, "error_rate<=3%", 0.03),
        (3, "mean<=20ms", math.inf),
        (3, "max<=1s", math.inf),
        (0, "mean<=20ms", 0.01),
        (0, "max<=1s", 0.01),
    ],
)
def test_measured_is_infinite_among_failures(failed, clause, value):
    """100 requests in a second, 10 ms each."""
    statuses = [Status.SERVER_FAILED] * failed + [Status.OK] * (100 - failed)
    metrics = of_run(stages("steady", 100, 1.0), samples_of([0.01] * 100, statuses=statuses))
    (objective,) = parse(clause)
    assert objective.measured(metrics) == pytest.approx(value)


@pytest.mark.parametrize(
    ("clause", "measured", "description"),
    [
        ("p99<=100ms", 0.25, "measured 250.0 ms"),
        ("p99<=100ms", math.inf, "over 1 % of requests failed, so there is no p99"),
        ("mean<=1s", math.inf, "a request failed, so there is no mean"),
        ("error_rate<=1%", 0.02, "measured 2.000%"),
        ("throughput>=15/s", 14.5, "measured 14.50/s"),
    ],
)
def test_describe_gives_the_value_or_why_there_is_none(clause, measured, description):
    """For the terminal, the page and JUnit."""
    (objective,) = parse(clause)
    assert objective.describe(measured) == description
