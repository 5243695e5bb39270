"""What a search for the highest rate has found."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from resnet_loadtest.judge.run import Run
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
        doubt: why the rates above could not be judged; empty if they were.
    """

    options: Options
    trials: Sequence[Trial]
    found: tuple[float, float, float] | None
    doubt: str

    @property
    def is_proven(self) -> bool:
        """Whether a rate passed, and the ones above missed for the server's sake."""
        return self.found is not None and not self.doubt

    @property
    def sentence(self) -> str:
        """The answer."""
        if self.found is None:
            return f"No rate met {self.options.slo}."
        rate, lower, upper = self.found
        if self.doubt:
            return f"At least {rate:.2f} requests per second meet {self.options.slo}; beyond, {self.doubt}."
        interval = f"95 % interval {lower:.2f} to {upper:.2f}"
        return f"{rate:.2f} requests per second meet {self.options.slo} ({interval})."

    def lines(self) -> list[str]:
        """The answer for a terminal."""
        word = "[bold green]FOUND[/]" if self.is_proven else "[bold yellow]INVALID[/]"
        return [f"{word}: {self.sentence}"]
