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


@pytest.mark.parametrize(("percent", "count"), [(50, 5), (95, 59), (99, 299), (99.9, 2995)])
def test_smallest_sample_is_larger_for_rarer_percentiles(percent, count):
    """Known values of the distribution-free bound."""
    assert smallest_sample(percent) == count


def test_confidence_interval_covers_the_truth(random):
    """Of 400 samples about 95 % have an interval that holds the true median; ten values do not bound p99 from above."""
    intervals = [confidence_interval(random.exponential(1.0, 200), 50) for _ in range(400)]
    assert sum(low <= math.log(2) <= high for low, high in intervals) >= 400 * 0.92
    assert confidence_interval(np.arange(10.0), 99)[1] == math.inf
