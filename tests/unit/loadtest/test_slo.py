"""The grammar of objectives."""

import pytest
from resnet_loadtest.errors import UsageError
from resnet_loadtest.metrics import of_run
from resnet_loadtest.samples import Status
from resnet_loadtest.schedule import stages
from resnet_loadtest.slo import parse

from .conftest import samples_of


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
    """The message quotes the clause and says what is expected."""
    with pytest.raises(UsageError, match=hint):
        parse(text)


def test_measured_is_infinite_among_failures():
    """100 requests in a second, 3 failed, 10 ms each."""
    statuses = [Status.SERVER_FAILED] * 3 + [Status.OK] * 97
    metrics = of_run(stages("steady", 100, 1.0), samples_of([0.01] * 100, statuses=statuses))
    measured = {o.text: o.measured(metrics) for o in parse("p95<=10.1ms,p99<=1s,error_rate<=3%,mean<=20ms,max<=1s")}
    assert measured["p95<=10.1ms"] == pytest.approx(0.01)
    assert measured["p99<=1s"] == float("inf")
    assert measured["error_rate<=3%"] == pytest.approx(0.03)
    assert measured["mean<=20ms"] == float("inf")
    assert measured["max<=1s"] == float("inf")


def test_measured_mean():
    """Nothing failed."""
    metrics = of_run(stages("steady", 100, 1.0), samples_of([0.01, 0.03] * 50))
    (objective,) = parse("mean<=20ms")
    assert objective.measured(metrics) == pytest.approx(0.02)


@pytest.mark.parametrize(
    ("clause", "measured", "description"),
    [
        ("p99<=100ms", 0.25, "measured 250.0 ms"),
        ("p99<=100ms", float("inf"), "over 1 % of requests failed, so there is no p99"),
        ("mean<=1s", float("inf"), "a request failed, so there is no mean"),
        ("error_rate<=1%", 0.02, "measured 2.000%"),
        ("throughput>=15/s", 14.5, "measured 14.50/s"),
    ],
)
def test_describe_gives_the_value_or_why_there_is_none(clause, measured, description):
    """For the terminal, the page and JUnit."""
    (objective,) = parse(clause)
    assert objective.describe(measured) == description
