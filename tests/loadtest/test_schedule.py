"""Schedules and profiles."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from resnet_loadtest.schedule import PROFILES, sending_times, share, stages

PROFILE = st.sampled_from(sorted(PROFILES))
RATE = st.floats(0.5, 200)
DURATION = st.floats(1, 60)
ARRIVALS = st.sampled_from(["poisson", "constant"])


@given(PROFILE, RATE, DURATION, ARRIVALS, st.integers(0, 9))
@settings(max_examples=60, deadline=None)
def test_sending_times_are_sorted_inside_the_run_and_repeatable(profile, rate, duration_s, arrivals, seed):
    """Times ascend, lie in the run, and the seed decides them."""
    course = stages(profile, rate, duration_s)
    times = sending_times(course, arrivals, seed)
    assert np.all(np.diff(times) >= 0)
    assert times.size == 0 or (times[0] >= 0 and times[-1] <= course[-1].end_s + 1e-9)
    assert np.array_equal(times, sending_times(course, arrivals, seed))


@given(PROFILE, RATE, DURATION, st.integers(1, 7))
@settings(max_examples=40, deadline=None)
def test_share_gives_every_request_to_one_worker(profile, rate, duration_s, workers):
    """Nothing is sent twice, nothing is forgotten."""
    times = sending_times(stages(profile, rate, duration_s), "poisson", 1)
    shares = [share(times, index, workers) for index in range(workers)]
    assert np.array_equal(np.sort(np.concatenate(shares)), times)


def test_sending_times_have_the_gaps_of_their_arrivals():
    """20 per second: all gaps are 50 ms, or that is both their mean and their standard deviation."""
    constant = np.diff(sending_times(stages("steady", 20, 10), "constant", 1))
    assert len(constant) == 199
    assert np.allclose(constant, 0.05)
    poisson = np.diff(sending_times(stages("steady", 20, 2000), "poisson", 1))
    assert (poisson.mean(), poisson.std()) == pytest.approx((0.05, 0.05), rel=0.05)


def test_sending_times_of_a_ramp_grow_denser():
    """From 0 to 100 per second in 10 s: 500 in all, of these a quarter in the first half."""
    times = sending_times(stages("ramp", 100, 10), "constant", 1)
    assert len(times) == 500
    assert np.sum(times < 5) == pytest.approx(125, abs=2)


@pytest.mark.parametrize("profile", PROFILES)
def test_stages_are_back_to_back(profile):
    """Each begins where the one before ended; together they last as long as asked."""
    course = stages(profile, 10, 50)
    for before, after in itertools.pairwise(course):
        assert after.start_s == pytest.approx(before.end_s)
    assert course[-1].end_s == pytest.approx(50)


def test_stages_of_a_spike_reach_three_times_the_level():
    """Before, spike, after."""
    assert [stage.mean_level for stage in stages("spike", 10)] == [10, 30, 10]
