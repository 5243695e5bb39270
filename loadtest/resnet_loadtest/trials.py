"""Runs trials on the server until the highest rate that meets an objective is known, and reports it."""

from __future__ import annotations

import dataclasses
import datetime
import functools
from typing import TYPE_CHECKING

from resnet_loadtest import records, runner
from resnet_loadtest.analysis import Verdict
from resnet_loadtest.report import page
from resnet_loadtest.search import Result, Trial, bisect
from resnet_loadtest.slo import parse

if TYPE_CHECKING:
    from rich.console import Console

    from resnet_loadtest.analysis import Run
    from resnet_loadtest.options import Options
    from resnet_loadtest.search import Bracket

_FOUND, _NOT_FOUND = 0, 2
# A trial holds enough requests for its percentile even if Poisson sends fewer than expected.
_MARGIN = 1.25
_ATTEMPTS = 2


@dataclasses.dataclass(frozen=True)
class Effort:
    """How thoroughly to search.

    Attributes:
        repeats: independent searches.
        precision: of each, as a share.
        trial_s: shortest trial in seconds; a percentile may need longer.
        start: first rate per second; None measures the capacity.
    """

    repeats: int
    precision: float
    trial_s: float
    start: float | None = None


class Search:
    """The searches and all their trials."""

    def __init__(self, options: Options, effort: Effort, console: Console) -> None:
        self._options = options
        self._effort = effort
        self._console = console
        self._trials: list[Trial] = []

    def run(self) -> int:
        """Search, print, write; returns the exit code."""
        objectives = parse(self._options.slo)
        first = self._effort.start or runner.measure_capacity(self._options)
        self._console.print(f"searching from {first:.1f}/s for {self._options.slo}", highlight=False)
        needed = max(objective.smallest_sample for objective in objectives)
        brackets: list[Bracket] = []
        for repeat in range(1, self._effort.repeats + 1):
            bracket = bisect(
                functools.partial(self._passes, repeat=repeat, needed=needed),
                self._next_start(brackets[-1].passed, repeat) if brackets else first,
                precision=self._effort.precision,
                growth=1 + 2 * self._effort.precision if brackets else 1.5,
            )
            brackets.append(bracket)
            if not bracket.passed:
                break  # there is no rate at which the next search could start
        return self._conclude(Result.of(self._options, self._trials, brackets))

    def _next_start(self, rate: float, repeat: int) -> float:
        """Near the last result, but never on the same grid of rates."""
        return rate * (1 + self._effort.precision * (repeat * 0.618 % 1 - 0.5))

    def _passes(self, rate: float, *, repeat: int, needed: int) -> bool:
        """One trial; an invalid one is repeated, and does not pass if it stays invalid."""
        for _ in range(_ATTEMPTS):
            run = self._try(rate, repeat, needed)
            if run.verdict is not Verdict.INVALID:
                break
        return run.verdict is Verdict.PASS

    def _try(self, rate: float, repeat: int, needed: int) -> Run:
        options = dataclasses.replace(
            self._options,
            rate=rate,
            duration_s=max(self._effort.trial_s, _MARGIN * needed / rate),
            seed=self._options.seed + len(self._trials),
        )
        run = runner.run(options)
        self._trials.append(Trial(repeat, rate, run))
        measured = ", ".join(check.objective.show(check.measured) for check in run.checks)
        self._console.print(
            f"  search {repeat}  {rate:8.2f}/s  {options.duration_s or 0:4.0f} s  {run.verdict.name:<8} {measured}",
            highlight=False,
        )
        return run

    def _conclude(self, result: Result) -> int:
        options = self._options
        stem = options.name or f"find-slo-{datetime.datetime.now().astimezone():%Y%m%d-%H%M%S}"
        options.out.mkdir(parents=True, exist_ok=True)
        html, json = options.out / f"{stem}.html", options.out / f"{stem}.json"
        page.write_search(result, html)
        records.write_search(result, json)
        verdict = "[bold green]FOUND[/]" if result.is_proven else "[bold yellow]INVALID[/]"
        self._console.print(f"{verdict}: {result.message}", highlight=False)
        for path in (html, json):
            self._console.print(f"  {path}", highlight=False, soft_wrap=True)
        return _FOUND if result.is_proven else _NOT_FOUND
