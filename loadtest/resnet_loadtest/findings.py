"""What a search for the highest rate has found."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

from resnet_loadtest import bisection
from resnet_loadtest.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from resnet_loadtest.analysis import Run
    from resnet_loadtest.bisection import Bracket
    from resnet_loadtest.options import Options


@dataclasses.dataclass(frozen=True, eq=False)
class Trial:
    """One run at one rate.

    Attributes:
        repeat: number of the search, from 1.
        rate: requests per second.
        run: all about it.
    """

    repeat: int
    rate: float
    run: Run


@dataclasses.dataclass(frozen=True, eq=False)
class Result:
    """The outcome of all searches.

    Attributes:
        options: what was asked for.
        trials: in the order in which they ran.
        found: highest rate that passed, lower and upper bound of its 95 % interval; None if none passed.
        doubt: why that is not the highest rate, or why there is none; empty if every search knows its own.
    """

    options: Options
    trials: Sequence[Trial]
    found: tuple[float, float, float] | None
    doubt: str

    @classmethod
    def of(cls, options: Options, trials: Sequence[Trial], brackets: Sequence[Bracket]) -> Result:
        """Conclude.

        Args:
            options: what was asked for.
            trials: in the order in which they ran.
            brackets: what each search has found; only the last may have met the objective nowhere.
        """
        answered = [bracket for bracket in brackets if bracket.passed]
        found = bisection.interval(answered) if answered else None
        return cls(options, trials, found, _doubt(trials, brackets))

    @property
    def is_proven(self) -> bool:
        """Whether in every search a rate passed, and the ones above missed for the server's sake."""
        return self.found is not None and not self.doubt

    @property
    def sentence(self) -> str:
        """The answer."""
        if self.found is None:
            return f"No rate met {self.options.slo}: {self.doubt}."
        rate, lower, upper = self.found
        if self.doubt:
            return f"{rate:.2f} requests per second met {self.options.slo}, but nothing is proven: {self.doubt}."
        interval = f"95 % interval {lower:.2f} to {upper:.2f}"
        return f"{rate:.2f} requests per second meet {self.options.slo} ({interval})."

    def lines(self) -> list[str]:
        """The answer for a terminal."""
        word = "[bold green]FOUND[/]" if self.is_proven else "[bold yellow]INVALID[/]"
        return [f"{word}: {self.sentence}"]


def _doubt(trials: Sequence[Trial], brackets: Sequence[Bracket]) -> str:
    """Why not every search knows the highest rate; empty if each does."""
    last = {trial.rate: trial.run for trial in trials}
    for repeat, bracket in enumerate(brackets, start=1):
        if not math.isfinite(bracket.failed):
            return f"search {repeat} met it at every rate, up to {bracket.passed:.2f}/s; --start higher"
        if last[bracket.failed].verdict is Verdict.INVALID:
            return f"at {bracket.failed:.2f}/s {last[bracket.failed].doubts[0]}"
        if not bracket.passed:
            return f"search {repeat} missed it at every rate, down to {bracket.failed:.2f}/s"
    return ""
