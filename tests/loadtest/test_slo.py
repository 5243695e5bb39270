"""The grammar of objectives."""

import math

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
    assert (throughput.metric, throughput.bound) == ("throughput", 15.0)


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("p99", "expected for example"),
        ("p99<=150", "unit must be"),
        ("p99>=150ms", "needs <="),
        ("throughput<=5/s", "needs >="),
        ("p0<=1ms", "between 0 and 100"),
        ("p100<=1ms", "use max"),
        ("speed<=1ms", "expected for example"),
        ("error_rate<=1ms", "unit must be"),
        ("p99<=" + "9" * 400 + "s", "expected for example"),
    ],
)
def test_parse_refuses_with_a_hint(text, hint):
    """The message quotes the clause and names what is expected."""
    with pytest.raises(UsageError, match=f"invalid --slo '{text}': .*{hint}"):
        parse(text)


@pytest.mark.parametrize(
    ("failed", "clause", "value", "description"),
    [
        (3, "p95<=1s", 0.01, "measured 10.0 ms"),
        (3, "p99<=1s", math.inf, "over 1 % of requests failed, so there is no p99"),
        (3, "error_rate<=3%", 0.03, "measured 3.000%"),
        (3, "mean<=20ms", math.inf, "a request failed, so there is no mean"),
        (3, "max<=1s", math.inf, "a request failed, so there is no max"),
        (0, "mean<=20ms", 0.01, "measured 10.0 ms"),
        (0, "max<=1s", 0.01, "measured 10.0 ms"),
        (3, "throughput>=15/s", 97, "measured 97.00/s"),
    ],
)
def test_measured_is_infinite_among_failures(failed, clause, value, description):
    """100 requests in a second, 10 ms each; the description gives the value or why there is none."""
    statuses = [Status.SERVER_FAILED] * failed + [Status.OK] * (100 - failed)
    samples = samples_of([0.01] * 100, statuses=statuses, spacing_s=0.0099)
    (objective,) = parse(clause)
    measured = objective.measured(of_run(stages("steady", 100, 1.0), samples))
    assert measured == pytest.approx(value)
    assert objective.describe(measured) == description
