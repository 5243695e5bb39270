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
WIDEST = 0.5
"""The widest interval of a result, as a share of its rate."""


@dataclasses.dataclass(frozen=True)
class Bracket:
    """The bounds of the highest passing rate.

    Attributes:
        passed: the highest rate that passed, per second; 0 if none did.
        failed: the lowest rate that failed, per second; infinite if none did.
    """

    passed: float = 0.0
    failed: float = math.inf

    @property
    def is_closed(self) -> bool:
        """Whether both ends are known."""
        return bool(self.passed) and math.isfinite(self.failed)

    def is_within(self, precision: float) -> bool:
        """Whether the width, relative to the upper end, is small enough."""
        return self.is_closed and self.failed - self.passed <= precision * self.failed

    def narrowed(self, rate: float, *, passes: bool) -> Bracket:
        """Return the bracket after another trial."""
        return Bracket(rate, self.failed) if passes else Bracket(self.passed, rate)


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
    bracket = Bracket()
    rate = first
    for _ in range(most_trials):
        bracket = bracket.narrowed(rate, passes=passes(rate))
        if bracket.is_within(precision):
            break
        if not math.isfinite(bracket.failed):
            rate = bracket.passed * growth
        elif not bracket.passed:
            rate = bracket.failed / growth
        else:
            rate = math.sqrt(bracket.passed * bracket.failed)
    return bracket


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
    if len(brackets) == 1 or not math.isfinite(upper):
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
        return "; ".join(map(str, self.run.findings)) if self.run.verdict is Verdict.INVALID else ""


@dataclasses.dataclass(frozen=True, eq=False)
class Result:
    """The outcome of all searches.

    Attributes:
        options: of the search.
        trials: in the order in which they ran.
        found: highest rate that passed, lower and upper bound of its 95 % interval; None if none passed.
        warning: why the result is not valid; empty if every search has found a rate, and the interval is narrow.
        target_rate: requests per second that the user wants to serve; None without.
    """

    options: Options
    trials: Sequence[Trial]
    found: tuple[float, float, float] | None
    warning: str
    target_rate: float | None = None

    @classmethod
    def of(
        cls,
        options: Options,
        trials: Sequence[Trial],
        brackets: Sequence[Bracket],
        target_rate: float | None = None,
    ) -> Result:
        """Compute the result.

        Args:
            options: of the search.
            trials: in the order in which they ran; at least one.
            brackets: what each search has found; only the last may have met the objective at no rate.
            target_rate: requests per second that the user wants to serve; None without.
        """
        passed = [bracket for bracket in brackets if bracket.passed]
        found = interval(passed) if passed else None
        return cls(options, trials, found, _warning(trials, brackets) or _width(found), target_rate)

    @property
    def is_proven(self) -> bool:
        """Whether every search found a rate that passed and a higher one that failed because of the server."""
        return self.found is not None and not self.warning

    @property
    def message(self) -> str:
        """The result, for reports."""
        if self.found is None:
            return f"No rate met {self.options.slo}: {self.warning}."
        rate = self.found[0]
        if self.warning:
            return (
                f"{rate:.2f} requests per second met {self.options.slo}, but the result is not valid: {self.warning}."
            )
        message = f"{rate:.2f} requests per second meet {self.options.slo} ({self.interval})."
        if self.servers is None:
            return message
        plural = "" if self.servers == 1 else "s"
        each = f"{self.servers} server{plural} with {self.found[1]:.2f} requests/s each"
        return f"{message} {self.target_rate:g} requests/s need {each}."

    @property
    def interval(self) -> str:
        """The interval, for reports; empty if nothing was found."""
        if self.found is None:
            return ""
        is_repeated = len({trial.repeat for trial in self.trials}) > 1
        if not is_repeated:
            return f"one search: {self.found[1]:.2f} passed, {self.found[2]:.2f} failed"
        return f"95 % interval {self.found[1]:.2f} to {self.found[2]:.2f}"

    @property
    def servers(self) -> int | None:
        """How many servers the target rate needs, each at the lower end of the interval; None if that is unknown."""
        if self.target_rate is None or self.found is None or not self.is_proven:
            return None
        return math.ceil(self.target_rate / self.found[1])


def _warning(trials: Sequence[Trial], brackets: Sequence[Bracket]) -> str:
    if trials[-1].run.ended:
        return f"the search ended early: {trials[-1].run.ended.reason}"
    last = {trial.rate: trial for trial in trials}
    for repeat, bracket in enumerate(brackets, start=1):
        if not math.isfinite(bracket.failed):
            return f"search {repeat} met it at every rate up to {bracket.passed:.2f}/s; increase --first-rate"
        if reason := last[bracket.failed].reason:
            return f"the trial at {bracket.failed:.2f}/s is not valid: {reason}"
        if not bracket.passed:
            return f"search {repeat} failed at every rate down to {bracket.failed:.2f}/s"
    return ""


def _width(found: tuple[float, float, float] | None) -> str:
    """Why the interval is useless; empty if it is not."""
    if found is None or found[2] - found[1] <= WIDEST * found[0]:
        return ""
    return (
        f"the searches disagree: the 95 % interval, {found[1]:.2f} to {found[2]:.2f}, is wider than {WIDEST:.0%} of "
        "the rate; increase --trial-s or --repeats, and stop other processes"
    )


class _EndedError(Exception):
    """A trial ended early, so the search ends."""


class Search:
    """Independent searches and their trials."""

    def __init__(
        self,
        options: Options,
        run: Callable[[Options], Run],
        *,
        repeats: int,
        precision: float,
        trial_s: float,
        console: Console,
        target_rate: float | None = None,
    ) -> None:
        """Set up the searches.

        Args:
            options: of every trial, except rate, duration and seed.
            run: runs one trial.
            repeats: independent searches, 1 or more.
            precision: of each, as a share.
            trial_s: shortest trial in seconds; a percentile may need longer.
            console: gets a line for each trial.
            target_rate: requests per second that the user wants to serve; None without.
        """
        self._options = options
        self._run = run
        self._repeats = repeats
        self._precision = precision
        self._trial_s = trial_s
        self._console = console
        self._target_rate = target_rate
        self._needed = max(objective.smallest_sample for objective in parse(options.slo))
        self._trials: list[Trial] = []

    def find(self, first: float) -> Result:
        """Search, from this rate per second on."""
        self._console.print(f"searching from {first:.1f}/s for {self._options.slo}", highlight=False)
        brackets: list[Bracket] = []
        with contextlib.suppress(_EndedError):
            for repeat in range(1, self._repeats + 1):
                bracket = bisect(
                    functools.partial(self._passes, repeat),
                    self._next_start(brackets[-1].passed, repeat) if brackets else first,
                    precision=self._precision,
                    growth=1 + 2 * self._precision if brackets else 1.5,
                )
                brackets.append(bracket)
                if not bracket.passed:
                    break  # the next search would have no rate to start from
        return Result.of(self._options, self._trials, brackets, self._target_rate)

    def _next_start(self, rate: float, repeat: int) -> float:
        """A rate near the last result, off the previous grid of rates."""
        return rate * (1 + self._precision * (repeat * 0.618 % 1 - 0.5))

    def _passes(self, repeat: int, rate: float) -> bool:
        """Run a trial; an invalid one is repeated once, and fails if it is invalid again."""
        for _ in range(_ATTEMPTS):
            run = self._try(repeat, rate)
            if run.ended:
                raise _EndedError
            if run.verdict is not Verdict.INVALID:
                break
        return run.verdict is Verdict.PASS

    def _try(self, repeat: int, rate: float) -> Run:
        duration_s = max(self._trial_s, _MARGIN * self._needed / rate)
        seed = self._options.seed + len(self._trials)
        run = self._run(dataclasses.replace(self._options, rate=rate, duration_s=duration_s, seed=seed))
        trial = Trial(repeat, rate, run)
        self._trials.append(trial)
        measured = ", ".join(check.objective.show(check.measured) for check in run.checks)
        line = f"  search {repeat}  {rate:8.2f}/s  {duration_s:4.0f} s  {run.verdict.label:<8} {measured}"
        reason = f"\n    {trial.reason}" if trial.reason else ""
        self._console.print(f"{line}{reason}", highlight=False, soft_wrap=True, markup=False)
        return run
