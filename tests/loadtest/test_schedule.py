"""Schedules and profiles."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from resnet_loadtest.schedule import PROFILES, sending_times, stages


@given(
    st.sampled_from(sorted(PROFILES)),
    st.floats(0.5, 200),
    st.floats(1, 60),
    st.sampled_from(["poisson", "constant"]),
    st.integers(0, 9),
)
def test_sending_times_are_sorted_inside_the_run_and_repeatable(profile, rate, duration_s, arrivals, seed):
    """Stages are back to back; times ascend and lie in the run, and the seed decides them."""
    course = stages(profile, rate, duration_s)
    assert all(after.start_s == pytest.approx(before.end_s) for before, after in itertools.pairwise(course))
    assert course[-1].end_s == pytest.approx(duration_s)
    times = sending_times(course, arrivals, seed)
    assert np.all(np.diff(times) >= 0)
    assert times.size == 0 or (times[0] >= 0 and times[-1] <= course[-1].end_s + 1e-9)
    assert np.array_equal(times, sending_times(course, arrivals, seed))


def test_sending_times_have_the_gaps_of_their_arrivals():
    """20 per second: all gaps are 50 ms, or that is both their mean and their standard deviation."""
    constant = np.diff(sending_times(stages("steady", 20, 10), "constant", 1))
    assert len(constant) == 199
    assert np.allclose(constant, 0.05)
    poisson = np.diff(sending_times(stages("steady", 20, 2000), "poisson", 1))
    assert (poisson.mean(), poisson.std()) == pytest.approx((0.05, 0.05), rel=0.05)


def test_sending_times_follow_the_level():
    """A ramp to 100 per second in 10 s: a quarter of 500 in the first half; a spike is three times the level."""
    times = sending_times(stages("ramp", 100, 10), "constant", 1)
    assert len(times) == 500
    assert np.sum(times < 5) == pytest.approx(125, abs=2)
    assert [stage.mean_level for stage in stages("spike", 10)] == [10, 30, 10]
