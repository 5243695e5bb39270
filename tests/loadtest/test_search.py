"""The search for the highest rate."""

import dataclasses
import io
import math
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st
from resnet_loadtest.analysis import Ending
from resnet_loadtest.options import Options
from resnet_loadtest.search import Bracket, Result, Trial, bisect, interval, search
from rich.console import Console

from .conftest import run_of, samples_of

OPTIONS = Options(rate=40.0, slo="p50<=100ms", duration_s=10.0)


@given(st.floats(1, 1000), st.floats(1, 1000), st.sampled_from([0.02, 0.05, 0.1]))
def test_bisect_brackets_the_truth(truth, first, precision):
    """A server that passes up to some rate is found out, from wherever the search begins."""
    bracket = bisect(lambda rate: rate <= truth, first, precision=precision, most_trials=40)
    assert bracket.passed <= truth < bracket.failed
    assert bracket.failed - bracket.passed <= precision * bracket.failed
    assert bisect(lambda _: True, first, most_trials=5).failed == math.inf
    assert bisect(lambda _: False, first, most_trials=5).passed == 0


def test_interval_contains_every_bracket():
    """That of one search is its bracket, and nothing narrower."""
    assert interval([Bracket(95, 100)]) == (95, 95, 100)
    mean, lower, upper = interval([Bracket(95, 100), Bracket(94, 99), Bracket(96, 101)])
    assert (mean, lower <= 94, upper >= 101) == (95, True, True)


@pytest.mark.parametrize(("count", "student"), [(3, 4.303), (11, 2.228), (40, 2.131)])
def test_interval_is_students(count, student):
    """Whose quantile is larger the fewer searches there were; half of them end at 95, half at 105."""
    middles = [95.0, *[95.0, 105.0] * count][:count]
    half = student * statistics.stdev(middles) / math.sqrt(count)
    _, lower, upper = interval([Bracket(middle - 0.5, middle + 0.5) for middle in middles])
    assert lower == pytest.approx(min(94.5, statistics.fmean(middles) - half))
    assert upper == pytest.approx(max(105.5, statistics.fmean(middles) + half))


def conclude(*brackets, late_s=0.0):
    """The result of brackets; at their lower ends 100 requests took 10 ms each, at their upper ones 1 s."""
    options = Options(rate=50.0, slo="p50<=100ms")
    trials = [
        Trial(repeat, rate, run_of(samples_of([duration_s] * 100, late_s=late_s), options=options))
        for repeat, bracket in enumerate(brackets, start=1)
        for rate, duration_s in ((bracket.passed, 0.01), (bracket.failed, 1.0))
        if 0 < rate < math.inf
    ]
    return Result(options, trials, brackets)


@pytest.mark.parametrize(
    ("brackets", "late_s", "is_proven", "message"),
    [
        ([(95, 100), (94, 99)], 0, True, "94.50 requests per second meet p50<=100ms (95 % interval "),
        ([(95, 100), (94, 99), (0, 7)], 0, False, "search 3 failed at every rate down to 7.00"),
        ([(95, math.inf)], 0, False, "search 1 met it at every rate up to 95.00/s; increase --first-rate"),
        ([(0, 7)], 0, False, "No rate met p50<=100ms: search 1 failed at every rate down to 7.00/s"),
        ([(95, 100)], 1.0, False, "but the result is not valid: the trial at 100.00/s"),
        ([(95, 100), (20, 21)], 0, False, "the searches disagree: the 95 % interval 0.00 to"),
        ([(95, 100)], 0, True, "one search: 95.00 passed, 100.00 failed)"),
    ],
)
def test_result_is_proven_by_closed_brackets(brackets, late_s, is_proven, message):
    """Not by a server that broke down, never reached its limit or always exceeded it, nor by a late generator."""
    result = conclude(*(Bracket(*bracket) for bracket in brackets), late_s=late_s)
    assert result.is_proven is is_proven
    assert message in result.message


def test_search_repeats_an_invalid_trial_and_prints_the_reason():
    """A server for 50/s; the generator was late in the first trial."""
    rates, text = [], io.StringIO()

    def run(options):
        rates.append(options.rate)
        duration_s = 0.01 if options.rate <= 50 else 1.0
        return run_of(samples_of([duration_s] * 100, late_s=float(len(rates) == 1)), options=options)

    result = search(OPTIONS, run, Console(file=text, width=140), repeats=1, precision=0.1, trial_s=1.0)
    assert result.is_proven
    assert result.found[1] <= 50 < result.found[2]
    assert rates[:2] == [40.0, 40.0]
    assert "INVALID" in text.getvalue()
    assert "whole run: requests were sent late" in text.getvalue()


def test_search_ends_with_an_interrupted_trial():
    """The others do not run."""

    def run(options):
        interrupted = Ending("INTERRUPTED", "SIGINT after 3 s")
        return dataclasses.replace(run_of(samples_of([0.01] * 100), options=options), ended=interrupted)

    result = search(OPTIONS, run, Console(file=io.StringIO()), repeats=3, precision=0.1, trial_s=1.0)
    assert len(result.trials) == 1
    assert "the search ended early: SIGINT after 3 s" in result.message
