"""Search the highest rate that meets an objective by bisection over trial runs.

Comparable with the server scenario of MLPerf: Poisson arrivals, a latency bound on a percentile, the highest rate
within the bound; but over the network, with encoded images, and with a confidence interval.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import math
import statistics
from collections.abc import Callable, Sequence

from rich.console import Console

from resnet_loadtest.analysis import Run, Verdict
from resnet_loadtest.options import Options
from resnet_loadtest.slo import parse

# Two-sided 95 % quantiles of Student's t, of 1, 2, 3 … degrees of freedom; for more, the last is slightly too large.
_STUDENT = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131)
# A trial has enough requests for its percentile even if Poisson arrivals give fewer than expected.
_MARGIN = 1.25
_ATTEMPTS = 2
_WIDEST = 0.5  # interval of a result, as a share of its rate


@dataclasses.dataclass(frozen=True)
class Bracket:
    """The bounds of the highest passing rate.

    Attributes:
        passed: the highest rate that passed, per second; 0 if none did.
        failed: the lowest rate that failed, per second; infinite if none did.
    """

    passed: float = 0.0
    failed: float = math.inf


def bisect(
    passes: Callable[[float], bool],
    first: float,
    *,
    precision: float = 0.05,
    growth: float = 1.5,
    most_trials: int = 12,
) -> Bracket:
    """Bracket the highest passing rate, then bisect.

    Args:
        passes: runs a trial; whether the rate passes.
        first: the first rate per second, above 0.
        precision: when to stop: width of the bracket relative to its upper end.
        growth: factor between rates while only one end is known, above 1.
        most_trials: most trials.
    """
    passed, failed, rate = 0.0, math.inf, first
    for _ in range(most_trials):
        passed, failed = (rate, failed) if passes(rate) else (passed, rate)
        if math.isinf(failed):
            rate = passed * growth
        elif not passed:
            rate = failed / growth
        elif failed - passed <= precision * failed:
            break
        else:
            rate = math.sqrt(passed * failed)
    return Bracket(passed, failed)


def interval(brackets: Sequence[Bracket]) -> tuple[float, float, float]:
    """The result of repeated searches with its 95 % confidence interval.

    The interval contains Student's t-interval of the brackets' middles, and every bracket: the result of a search is
    no more precise than its bracket.

    Args:
        brackets: one of each search, each with a rate that passed; not empty.

    Returns:
        Mean of the highest rates that passed, lower and upper bound.
    """
    lower = min(bracket.passed for bracket in brackets)
    upper = max(bracket.failed for bracket in brackets)
    mean = statistics.fmean(bracket.passed for bracket in brackets)
    if len(brackets) == 1 or math.isinf(upper):
        return mean, lower, upper
    middles = [(bracket.passed + bracket.failed) / 2 for bracket in brackets]
    student = _STUDENT[min(len(middles) - 1, len(_STUDENT)) - 1]
    half = student * statistics.stdev(middles) / math.sqrt(len(middles))
    middle = statistics.fmean(middles)
    return mean, max(0.0, min(lower, middle - half)), max(upper, middle + half)


@dataclasses.dataclass(frozen=True, eq=False)
class Trial:
    """One run at one rate.

    Attributes:
        repeat: number of the search, from 1.
        rate: requests per second.
        run: the finished run.
    """

    repeat: int
    rate: float
    run: Run

    @property
    def reason(self) -> str:
        """Why the trial is not valid; empty if it is."""
        if self.run.ended:
            return self.run.ended.reason
        return "; ".join(self.run.warnings) if self.run.verdict is Verdict.INVALID else ""


@dataclasses.dataclass(frozen=True, eq=False)
class Result:
    """The outcome of all searches.

    Attributes:
        options: of the search.
        trials: in the order in which they ran; at least one.
        brackets: what each search has found; only the last may have met the objective at no rate.
    """

    options: Options
    trials: Sequence[Trial]
    brackets: Sequence[Bracket]

    @property
    def found(self) -> tuple[float, float, float] | None:
        """The highest rate that passed, lower and upper bound of its 95 % interval; None if none passed."""
        passed = [bracket for bracket in self.brackets if bracket.passed]
        return interval(passed) if passed else None

    @property
    def warning(self) -> str:
        """Why the result is not valid; empty if every search has found a rate, and the interval is narrow."""
        if self.trials[-1].run.ended:
            return f"the search ended early: {self.trials[-1].run.ended.reason}"
        last = {trial.rate: trial for trial in self.trials}
        for repeat, bracket in enumerate(self.brackets, start=1):
            if math.isinf(bracket.failed):
                return f"search {repeat} met it at every rate up to {bracket.passed:.2f}/s; increase --first-rate"
            if reason := last[bracket.failed].reason:
                return f"the trial at {bracket.failed:.2f}/s is not valid: {reason}"
            if not bracket.passed:
                return f"search {repeat} failed at every rate down to {bracket.failed:.2f}/s"
        if self.found is None or self.found[2] - self.found[1] <= _WIDEST * self.found[0]:
            return ""
        return (
            f"the searches disagree: the {self.interval} is wider than {_WIDEST:.0%} of the rate; increase --trial-s "
            "or --repeats, and stop other processes"
        )

    @property
    def is_proven(self) -> bool:
        """Whether every search found a rate that passed and a higher one that failed because of the server."""
        return self.found is not None and not self.warning

    @property
    def message(self) -> str:
        """The result, for reports."""
        if self.found is None:
            return f"No rate met {self.options.slo}: {self.warning}."
        met = f"{self.found[0]:.2f} requests per second"
        if self.warning:
            return f"{met} met {self.options.slo}, but the result is not valid: {self.warning}."
        return f"{met} meet {self.options.slo} ({self.interval})."

    @property
    def interval(self) -> str:
        """The interval, for reports; empty if nothing was found."""
        if self.found is None:
            return ""
        _, lower, upper = self.found
        if len({trial.repeat for trial in self.trials}) == 1:
            return f"one search: {lower:.2f} passed, {upper:.2f} failed"
        return f"95 % interval {lower:.2f} to {upper:.2f}"


class _EndedError(Exception):
    """A trial ended early, so the search ends."""


def search(
    options: Options,
    run: Callable[[Options], Run],
    console: Console,
    *,
    repeats: int,
    precision: float,
    trial_s: float,
) -> Result:
    """Search independently several times.

    Args:
        options: of every trial, except duration and seed, with the first rate.
        run: runs one trial.
        console: gets a line for each trial.
        repeats: independent searches, 1 or more.
        precision: of each, as a share.
        trial_s: shortest trial in seconds; a percentile may need longer.
    """
    needed = max(objective.smallest_sample for objective in parse(options.slo))
    trials: list[Trial] = []
    brackets: list[Bracket] = []

    def passes(repeat: int, rate: float) -> bool:
        """Run a trial; an invalid one is repeated once, and fails if it is invalid again."""
        for _ in range(_ATTEMPTS):
            duration_s = max(trial_s, _MARGIN * needed / rate)
            seed = options.seed + len(trials)
            trials.append(
                Trial(repeat, rate, run(dataclasses.replace(options, rate=rate, duration_s=duration_s, seed=seed)))
            )
            _print(trials[-1], console)
            if trials[-1].run.ended:
                raise _EndedError
            if trials[-1].run.verdict is not Verdict.INVALID:
                break
        return trials[-1].run.verdict is Verdict.PASS

    start, growth = options.level, 1.5
    console.print(f"searching from {start:.1f}/s for {options.slo}")
    with contextlib.suppress(_EndedError):
        for repeat in range(1, repeats + 1):
            found = bisect(functools.partial(passes, repeat), start, precision=precision, growth=growth)
            brackets.append(found)
            if not found.passed:
                break  # the next search would have no rate to start from
            # Near this result, off its grid of rates.
            start, growth = found.passed * (1 + precision * ((repeat + 1) * 0.618 % 1 - 0.5)), 1 + 2 * precision
    return Result(options, trials, brackets)


def _print(trial: Trial, console: Console) -> None:
    run = trial.run
    measured = ", ".join(check.objective.show(check.measured) for check in run.checks)
    duration_s = run.options.duration_s or 0.0
    line = f"  search {trial.repeat}  {trial.rate:8.2f}/s  {duration_s:4.0f} s  {run.verdict.label:<8} {measured}"
    reason = f"\n    {trial.reason}" if trial.reason else ""
    console.print(f"{line}{reason}")
