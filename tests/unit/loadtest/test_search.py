"""The search for the highest rate."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from resnet_loadtest.judge.bisection import Bracket, interval, search


@given(st.floats(1, 1000), st.floats(1, 1000), st.sampled_from([0.02, 0.05, 0.1]))
def test_the_truth_lies_in_the_bracket(truth, first, precision):
    """A server that passes up to some rate is found out, from wherever the search begins."""
    bracket = search(lambda rate: rate <= truth, first, precision=precision, most_trials=40)
    assert bracket.passed <= truth < bracket.failed
    assert bracket.is_within(precision)


def test_the_search_gives_up_in_the_end():
    """Where everything passes there is no upper end, and where nothing does no lower."""
    assert search(lambda _: True, 10, most_trials=5).failed == math.inf
    assert search(lambda _: False, 10, most_trials=5).passed == 0


def test_the_interval_holds_every_bracket():
    """And grows with the differences between searches."""
    close = interval([Bracket(95, 100), Bracket(94, 99), Bracket(96, 101)])
    far = interval([Bracket(95, 100), Bracket(75, 80), Bracket(115, 120)])
    assert close[0] == pytest.approx(95)
    assert close[1] <= 94
    assert close[2] >= 101
    assert far[2] - far[1] > 3 * (close[2] - close[1])


def test_one_search_knows_its_bracket():
    """Nothing narrower is claimed."""
    assert interval([Bracket(95, 100)]) == (95, 95, 100)
