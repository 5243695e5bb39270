"""The grammar of objectives."""

import pytest
from resnet_loadtest.metrics import of_run
from resnet_loadtest.samples import Fate
from resnet_loadtest.schedule import stages
from resnet_loadtest.slo import parse

from .conftest import samples_of


def test_the_example_of_the_documentation_is_read():
    """Three clauses, each in its own unit."""
    latency, errors, throughput = parse("p99<=150ms, error_rate<=0.1%, throughput>=15/s")
    assert (latency.metric, latency.percent, latency.bound) == ("response", 99.0, pytest.approx(0.15))
    assert errors.bound == pytest.approx(0.001)
    assert (throughput.sign, throughput.bound) == (">=", 15.0)


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("p99", "write for example"),
        ("p99<=150", "unit must be"),
        ("p99>=150ms", "at most"),
        ("throughput<=5/s", "at least"),
        ("p0<=1ms", "between 0 and 100"),
        ("p100<=1ms", "write max"),
        ("speed<=1ms", "not known"),
        ("p99<=1.2.3ms", "no number"),
        ("error_rate<=1ms", "unit must be"),
    ],
)
def test_nonsense_is_refused_with_a_hint(text, hint):
    """The message says what would make sense."""
    with pytest.raises(ValueError, match=hint):
        parse(text)


def test_objectives_are_held_against_what_was_measured():
    """100 requests in a second, 3 failed, 10 ms each."""
    fates = [Fate.SERVER_FAILED] * 3 + [Fate.OK] * 97
    figures = of_run(stages("steady", 100, 1.0), samples_of([0.01] * 100, fates=fates))
    measured = {o.text: o.measured(figures) for o in parse("p95<=10.1ms,p99<=1s,error_rate<=3%,mean<=20ms,max<=1s")}
    assert measured["p95<=10.1ms"] == pytest.approx(0.01)
    assert measured["p99<=1s"] == float("inf")
    assert measured["error_rate<=3%"] == pytest.approx(0.03)
    assert measured["mean<=20ms"] == float("inf")
    assert measured["max<=1s"] == float("inf")


def test_a_mean_of_answers_only_is_their_mean():
    """Nothing failed."""
    figures = of_run(stages("steady", 100, 1.0), samples_of([0.01, 0.03] * 50))
    (objective,) = parse("mean<=20ms")
    assert objective.measured(figures) == pytest.approx(0.02)
