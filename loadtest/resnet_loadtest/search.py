"""Runs trials until the highest rate that meets an objective is known, and reports it.

Comparable with the server scenario of MLPerf: Poisson arrivals, a latency bound on a percentile, the highest
rate that keeps it; but over the network, with photos, and with an interval.
"""

from __future__ import annotations

import dataclasses
import datetime
import functools
import json
from typing import TYPE_CHECKING

from resnet_loadtest import bisection
from resnet_loadtest.capacity import measure
from resnet_loadtest.findings import Result, Trial
from resnet_loadtest.report import page, search_page
from resnet_loadtest.runner import conduct
from resnet_loadtest.slo import parse
from resnet_loadtest.verdict import Verdict

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console

    from resnet_loadtest.analysis import Run
    from resnet_loadtest.bisection import Bracket
    from resnet_loadtest.options import Options

_FOUND, _NOT_FOUND = 0, 2
# A trial holds enough requests for its percentile even if Poisson sends a few less than expected.
_MARGIN = 1.25
_ATTEMPTS = 2


@dataclasses.dataclass(frozen=True)
class Effort:
    """How hard to search.

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
        first = self._effort.start or measure(self._options)
        self._console.print(f"searching from {first:.1f}/s for {self._options.slo}", highlight=False)
        needed = max(objective.smallest_sample for objective in objectives)
        brackets: list[Bracket] = []
        for repeat in range(1, self._effort.repeats + 1):
            bracket = bisection.search(
                functools.partial(self._passes, repeat=repeat, needed=needed),
                self._beginning(brackets[-1].passed, repeat) if brackets else first,
                precision=self._effort.precision,
                growth=1 + 2 * self._effort.precision if brackets else 1.5,
            )
            brackets.append(bracket)
            if not bracket.passed:
                break  # nobody knows where to begin the next one
        return self._conclude(brackets)

    def _beginning(self, answer: float, repeat: int) -> float:
        """Near the last answer, but never on the same grid of rates."""
        return answer * (1 + self._effort.precision * (repeat * 0.618 % 1 - 0.5))

    def _passes(self, rate: float, *, repeat: int, needed: int) -> bool:
        """One trial; a doubtful one is done again, and proves no pass if it stays doubtful."""
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
        run = conduct(options)
        self._trials.append(Trial(repeat, rate, run))
        shown = ", ".join(check.objective.show(check.measured) for check in run.checks)
        self._console.print(
            f"  search {repeat}  {rate:8.2f}/s  {options.duration_s or 0:4.0f} s  {run.verdict.name:<8} {shown}",
            highlight=False,
        )
        return run

    def _conclude(self, brackets: list[Bracket]) -> int:
        result = Result.of(self._options, self._trials, brackets)
        written = self._write(result)
        for line in result.lines():
            self._console.print(line, highlight=False)
        for path in written:
            self._console.print(f"  {path}", highlight=False, soft_wrap=True)
        return _FOUND if result.is_proven else _NOT_FOUND

    def _write(self, result: Result) -> list[Path]:
        options = self._options
        stem = options.name or f"find-slo-{datetime.datetime.now().astimezone():%Y%m%d-%H%M%S}"
        options.out.mkdir(parents=True, exist_ok=True)
        html, raw = options.out / f"{stem}.html", options.out / f"{stem}.json"
        page.write(search_page.page(result), html)
        raw.write_text(json.dumps(search_page.document(result), indent=1) + "\n", encoding="utf-8")
        return [html, raw]
