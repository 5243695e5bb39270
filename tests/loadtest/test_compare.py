"""The comparison of two runs."""

import pytest
from resnet_loadtest.compare import Change, compare, error_rates_differ
from resnet_loadtest.samples import Status

from .conftest import run_of, samples_of


@pytest.fixture
def make(random):
    """Make a run of 1000 requests with latencies around a mean."""
    return lambda mean_s: run_of(samples_of(random.gamma(20, mean_s / 20, 1000)))


def changes(first, second, tolerance=0.05):
    """Metric → what its change means."""
    return {ratio.name: ratio.change for ratio in compare(first, second, tolerance=tolerance).ratios}


def test_compare_equal_servers_is_same(make):
    """Same distribution, other draws."""
    assert set(changes(make(0.02), make(0.02)).values()) == {Change.SAME}


def test_compare_slower_server_is_worse(make):
    """20 % slower, whichever way round."""
    slow, fast = make(0.024), make(0.02)
    assert changes(fast, slow)["p50"] is Change.WORSE
    assert changes(slow, fast)["p50"] is Change.BETTER
    assert changes(fast, slow, tolerance=0.5)["p50"] is Change.SAME


def test_compare_interval_contains_the_true_ratio(make):
    """1.2 between these two."""
    median = compare(make(0.02), make(0.024)).ratios[0]
    assert median.lower <= 1.2 <= median.upper


def test_compare_small_samples_is_unknown():
    """p99 of 50 requests is unknown."""
    short = run_of(samples_of([0.01] * 50))
    assert changes(short, short)["p99"] is Change.UNKNOWN


def test_error_rates_differ_beyond_chance():
    """5 % against none, and 1 against 2 of a thousand."""

    def failing(count):
        statuses = [Status.OVERLOADED] * count + [Status.OK] * (1000 - count)
        return run_of(samples_of([0.01] * 1000, statuses=statuses))

    assert error_rates_differ(failing(0), failing(50))
    assert not error_rates_differ(failing(1), failing(2))
    assert not error_rates_differ(failing(50), failing(0))


def test_compare_throughput_excludes_responses_after_the_end():
    """An overloaded server of 20/s and one of 25/s, asked 30 times a second, in the end answer all."""

    def overloaded(rate):
        return run_of(samples_of([(i + 1) / rate - i / 30 for i in range(300)], spacing_s=1 / 30))

    slow, fast = overloaded(20), overloaded(25)
    throughput = {ratio.name: ratio for ratio in compare(fast, slow).ratios}["throughput"]
    assert throughput.first == pytest.approx(fast.whole.throughput)
    assert throughput.second == pytest.approx(slow.whole.throughput)
    assert throughput.change is Change.WORSE


def test_compare_with_few_failures_finds_slowness(random):
    """4 of 1000 fail on both sides, so that p99 is known, though not in every resample; B takes 18 times as long."""
    statuses = [Status.OVERLOADED if i % 250 == 100 else Status.OK for i in range(1000)]

    def run(mean_s):
        return run_of(samples_of(random.gamma(20, mean_s / 20, 1000), statuses=statuses))

    assert changes(run(0.02), run(0.36))["p99"] is Change.WORSE


def test_compare_percentile_among_failures_is_unknown():
    """5 % fail on both sides: there is no p99, but a p50."""
    statuses = [Status.OVERLOADED] * 50 + [Status.OK] * 950
    run = run_of(samples_of([0.01] * 1000, statuses=statuses))
    assert (changes(run, run)["p99"], changes(run, run)["p50"]) == (Change.UNKNOWN, Change.SAME)
