"""The search for the highest rate that meets an objective; pure: trials are done by the caller."""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Callable, Sequence
from typing import TypeAlias

Trial: TypeAlias = Callable[[float], bool]

# Two-sided 95 % quantiles of Student's t, of 1, 2, 3 … degrees of freedom; of more, the last is a little too large.
_STUDENT = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131)


@dataclasses.dataclass(frozen=True)
class Bracket:
    """Where the answer lies.

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
        """After one more trial."""
        return Bracket(rate, self.failed) if passes else Bracket(self.passed, rate)


def search(
    trial: Trial, first: float, *, precision: float = 0.05, growth: float = 1.5, most_trials: int = 12
) -> Bracket:
    """Bracket the highest passing rate by growing and shrinking, then bisect.

    Args:
        trial: whether a rate passes.
        first: where to begin, per second, above 0.
        precision: when to stop: width of the bracket relative to its upper end.
        growth: factor up or down while only one end is known, above 1.
        most_trials: stop after so many in any case.
    """
    bracket = Bracket()
    rate = first
    for _ in range(most_trials):
        bracket = bracket.narrowed(rate, passes=trial(rate))
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
    """The answer of repeated searches with its 95 % confidence interval.

    The interval holds Student's t-interval of the searches' middles, and every bracket: a search knows its
    answer no better than its bracket is wide.

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
