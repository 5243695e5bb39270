"""Percentiles from the full sample."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from resnet_loadtest.percentiles import confidence_interval, percentile, smallest_sample

VALUES = st.lists(st.floats(0, 1e6), min_size=1, max_size=200).map(np.array)


@given(VALUES, st.floats(0.1, 100))
def test_percentile_is_a_value_that_so_many_do_not_exceed(values, percent):
    """Nearest rank: it was measured, and it is the smallest that will do."""
    found = percentile(values, percent)
    assert found in values
    assert np.sum(values <= found) >= len(values) * percent / 100 - 1e-6
    assert np.sum(values < found) < len(values) * percent / 100 + 1e-6


def test_percentile_counts_failures_as_infinitely_slow():
    """Of a hundred two failed: p98 is a time, p99 is not."""
    values = np.array([0.01] * 98 + [math.inf] * 2)
    assert percentile(values, 98) == 0.01
    assert percentile(values, 99) == math.inf


@pytest.mark.parametrize(("percent", "count"), [(50, 5), (95, 59), (99, 299), (99.9, 2995), (100, 1)])
def test_smallest_sample_is_larger_for_rarer_percentiles(percent, count):
    """Known values of the distribution-free bound."""
    assert smallest_sample(percent) == count


def test_confidence_interval_covers_the_truth(random):
    """Of 400 samples about 95 % have an interval that holds the true median."""
    covers = 0
    for _ in range(400):
        low, high = confidence_interval(random.exponential(1.0, 200), 50)
        covers += low <= math.log(2) <= high
    assert covers >= 400 * 0.92


def test_confidence_interval_of_a_small_sample_has_no_upper_bound():
    """Ten values do not bound p99 from above."""
    assert confidence_interval(np.arange(10.0), 99)[1] == math.inf
