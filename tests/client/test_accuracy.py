"""Statistics of classifications."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from resnet_client import accuracy
from scipy.stats import binomtest


@given(st.integers(1, 500).flatmap(lambda count: st.tuples(st.integers(0, count), st.just(count))))
@example((0, 10))
@example((10, 10))
def test_wilson_interval_equals_scipys(hits_and_count):
    """For any share, none and all included."""
    hits, count = hits_and_count
    expected = binomtest(hits, count).proportion_ci(method="wilson")
    assert accuracy.wilson_interval(hits / count, count) == pytest.approx((expected.low, expected.high), abs=1e-4)


@given(st.integers(0, 2000), st.integers(0, 2000))
@example(0, 0)
@example(20_000, 19_900)
def test_compare_has_scipys_p_value(only_first, only_second):
    """McNemar's exact test is a binomial test of the images on which one model is right."""
    found = [(1, 1, 0)] * only_first + [(1, 0, 1)] * only_second + [(1, 1, 1)]
    compared = accuracy.compare("a", "b", found)
    expected = binomtest(only_first, only_first + only_second).pvalue if only_first + only_second else 1.0
    assert compared.p_value == pytest.approx(expected, rel=1e-6)
    low, high = compared.difference_interval
    assert -1 <= low < compared.difference < high <= 1 or only_first + only_second == 0


def test_compare_counts_images_that_one_model_has_right():
    """Two models agree also if both are wrong."""
    compared = accuracy.compare("a", "b", [(1, 1, 1), (1, 1, 2), (1, 2, 1), (1, 2, 2)])
    assert (compared.only_first_right, compared.only_second_right, compared.difference) == (1, 1, 0)
    assert compared.agreement == 0.5


def test_calibration_error_weighs_bins_by_their_images():
    """Two images at 0.95, one of them right, and two at 0.25, none right: (2 * 0.45 + 2 * 0.25) / 4."""
    bins = accuracy.calibration([(0.95, True), (0.95, False), (0.25, False), (0.25, False)])
    assert [(each.low, each.right, each.images) for each in bins if each.images] == [(0.2, 0, 2), (0.9, 1, 2)]
    assert accuracy.calibration_error(bins) == pytest.approx(0.35)


def test_calibration_puts_certainty_into_the_last_bin():
    """A probability of 1 is in the last tenth, and no image is no error."""
    assert accuracy.calibration([(1.0, True)])[-1].images == 1
    assert accuracy.calibration_error(accuracy.calibration([])) == 0
