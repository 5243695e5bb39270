"""Live progress and the summary on the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from resnet_loadtest.analysis import Verdict
from resnet_loadtest.report import tables
from resnet_loadtest.samples import Status
from resnet_loadtest.workloads import addresses

if TYPE_CHECKING:
    from rich.console import Console

    from resnet_loadtest.analysis import Run
    from resnet_loadtest.generator import Chunk
    from resnet_loadtest.report.tables import Rows
    from resnet_loadtest.schedule import Stage

_COLOURS = {Verdict.PASS: "green", Verdict.MEASURED: "cyan", Verdict.FAIL: "red", Verdict.INVALID: "yellow"}
_LINE_S = 5.0
# A terminal is narrower than the page.
_ON_THE_PAGE_ONLY = {"p99.9", "max", "Little's law", "reasons", "busy"}


class Progress:
    """One line that changes on a terminal; elsewhere a line every five seconds."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._next_s = 0.0

    def __call__(self, now_s: float, stage: Stage, chunks: list[Chunk]) -> None:
        """Print where the run is."""
        if now_s < self._next_s:
            return
        self._next_s = now_s + (1.0 if self._console.is_terminal else _LINE_S)
        recent = chunks[-1].samples if chunks else ()
        durations = sorted(row["done_s"] - row["intended_s"] for row in recent if row["status"] == Status.OK)
        answered = sum(int((chunk.samples["status"] == Status.OK).sum()) for chunk in chunks)
        failed = sum(len(chunk.samples) for chunk in chunks) - answered
        median = f"{durations[len(durations) // 2] * 1000:6.1f} ms" if durations else "        -"
        line = (
            f"{max(0, now_s):5.0f} s  {stage.name:<12} level {stage.level_at(now_s):7.1f}  answered {answered:6}  "
            f"failed {failed:4}  last second's median {median}"
        )
        self._console.print(line, end="\r" if self._console.is_terminal else "\n", highlight=False)


def print_summary(run: Run, console: Console) -> None:
    """Print the results of a run."""
    options = run.options
    where = f"{options.mix} on {options.model} at {addresses(options)}"
    console.print(Text(f"\n{options.profile}, {options.loop}, {where}"))
    for rows in (tables.stage_rows(run), tables.model_rows(run)):
        if rows:
            console.print(_table(rows))
    for check in run.checks:
        verdict = ("met", "green") if check.is_met else ("failed", "red")
        console.print(Text.assemble("  ", verdict, f": {check.message}"))
    for warning in run.warnings:
        console.print(Text(f"  warning: {warning}", style="yellow"), soft_wrap=True)
    if run.memory_growth is not None and run.options.profile == "soak":
        console.print(Text(f"  generator memory after warming up: {run.memory_growth:+.1%}"))
    console.print(Text(f"  Bottleneck: {run.bottleneck}"), soft_wrap=True)
    console.print(Text.assemble((run.verdict.name, f"bold {_COLOURS[run.verdict]}"), f": {run.verdict.meaning}"))


def _table(rows: Rows) -> Table:
    columns = [name for name in rows[0] if name not in _ON_THE_PAGE_ONLY]
    table = Table(box=None, pad_edge=False)
    for name in columns:
        table.add_column(name, justify="left" if name is columns[0] else "right")
    for row in rows:
        table.add_row(*(Text(row[name]) for name in columns), style="bold" if row[columns[0]] == "whole run" else "")
    return table
