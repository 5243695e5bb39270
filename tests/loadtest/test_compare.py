"""The comparison of two runs."""

import pytest
from resnet_loadtest.compare import Change, compare
from resnet_loadtest.samples import Status

from .conftest import run_of, samples_of


@pytest.fixture
def make(random):
    """Make a run of 1000 requests with latencies around a mean."""
    return lambda mean_s: run_of(samples_of(random.gamma(20, mean_s / 20, 1000)))


def changes(first, second, tolerance=0.05):
    """Metric → what its change means."""
    return {ratio.name: ratio.change for ratio in compare(first, second, tolerance=tolerance).ratios}


def test_compare_finds_a_slower_server(make):
    """20 % slower, whichever way round; the interval contains that; equal servers are the same."""
    slow, fast, other = make(0.024), make(0.02), make(0.02)
    assert set(changes(fast, other).values()) == {Change.SAME}
    assert changes(fast, slow)["p50"] is Change.WORSE
    assert changes(slow, fast)["p50"] is Change.BETTER
    assert changes(fast, slow, tolerance=0.5)["p50"] is Change.SAME
    median = compare(fast, slow).ratios[0]
    assert median.lower <= 1.2 <= median.upper


def test_compare_has_more_errors_only_beyond_chance():
    """5 % against none, and 1 against 2 of a thousand."""

    def failing(count):
        statuses = [Status.OVERLOADED] * count + [Status.OK] * (1000 - count)
        return run_of(samples_of([0.01] * 1000, statuses=statuses))

    assert compare(failing(0), failing(50)).has_more_errors
    assert not compare(failing(1), failing(2)).has_more_errors
    assert not compare(failing(50), failing(0)).has_more_errors


def test_compare_throughput_excludes_responses_after_the_end():
    """An overloaded server of 20/s and one of 25/s, asked 30 times a second, in the end answer all."""

    def overloaded(rate):
        return run_of(samples_of([(i + 1) / rate - i / 30 for i in range(300)], spacing_s=1 / 30))

    slow, fast = overloaded(20), overloaded(25)
    throughput = {ratio.name: ratio for ratio in compare(fast, slow).ratios}["throughput"]
    assert throughput.first == pytest.approx(fast.whole.throughput)
    assert throughput.second == pytest.approx(slow.whole.throughput)
    assert throughput.change is Change.WORSE


@pytest.mark.parametrize(
    ("every", "mean_s", "count", "expected"),
    [
        (250, 0.36, 1000, {"p99": Change.WORSE}),  # p99 is known, though not in every resample
        (20, 0.02, 1000, {"p50": Change.SAME, "p99": Change.UNKNOWN}),  # there is no p99
        (250, 0.02, 50, {"p99": Change.UNKNOWN}),  # there are too few requests
    ],
)
def test_compare_knows_a_percentile_where_few_fail(random, every, mean_s, count, expected):
    """Every so many requests fail on both sides; A takes 20 ms."""
    statuses = [Status.OVERLOADED if i % every == every // 2 else Status.OK for i in range(count)]
    runs = [run_of(samples_of(random.gamma(20, s / 20, count), statuses=statuses)) for s in (0.02, mean_s)]
    assert expected.items() <= changes(*runs).items()
