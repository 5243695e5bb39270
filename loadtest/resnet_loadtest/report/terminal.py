"""Live progress and the summary on the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table
from rich.text import Text

from resnet_loadtest.report.numbers import level, milliseconds
from resnet_loadtest.verdict import Verdict
from resnet_loadtest.workloads import addresses

if TYPE_CHECKING:
    from rich.console import Console

    from resnet_loadtest.analysis import Run
    from resnet_loadtest.generator import Chunk
    from resnet_loadtest.metrics import Figures
    from resnet_loadtest.schedule import Stage

_COLOURS = {Verdict.PASS: "green", Verdict.MEASURED: "cyan", Verdict.MISSED: "red", Verdict.INVALID: "yellow"}
_LINE_S = 5.0


class Progress:
    """One line that changes on a terminal; elsewhere a line every five seconds."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._next_s = 0.0

    def __call__(self, now_s: float, stage: Stage, chunks: list[Chunk]) -> None:
        """Show where the run is."""
        if now_s < self._next_s:
            return
        self._next_s = now_s + (1.0 if self._console.is_terminal else _LINE_S)
        recent = chunks[-1].samples if chunks else ()
        durations = sorted(row["done_s"] - row["intended_s"] for row in recent if row["fate"] == 0)
        answered = sum(int((chunk.samples["fate"] == 0).sum()) for chunk in chunks)
        failed = sum(len(chunk.samples) for chunk in chunks) - answered
        median = f"{durations[len(durations) // 2] * 1000:6.1f} ms" if durations else "        -"
        line = (
            f"{max(0, now_s):5.0f} s  {stage.name:<12} level {stage.level_at(now_s):7.1f}  answered {answered:6}  "
            f"failed {failed:4}  last second's median {median}"
        )
        self._console.print(line, end="\r" if self._console.is_terminal else "\n", highlight=False)


def summarise(run: Run, console: Console) -> None:
    """Print what a run found."""
    options = run.options
    kind = f"open loop, {options.arrivals} arrivals" if options.is_open_loop else "closed loop"
    asked = f"\n{options.profile}, {kind}, {options.mix} on {options.model} at {addresses(options)}"
    console.print(asked, highlight=False, markup=False)
    console.print(_figures(run))
    if run.server.steps:
        console.print(_steps(run))
    for check in run.checks:
        sign = "[green]met[/]" if check.is_met else "[red]missed[/]"
        measured = check.objective.show(check.measured)
        told = escape(f"{check.part}: {check.objective.text} (measured {measured})")
        console.print(f"  {sign}  {told}", highlight=False)
    for doubt in run.doubts:
        console.print(Text(f"  doubt  {doubt}", style="yellow"), soft_wrap=True)
    if run.memory_growth is not None and options.profile == "soak":
        console.print(f"  generator memory after warming up: {run.memory_growth:+.1%}", highlight=False)
    console.print(f"  {run.limit}", highlight=False, soft_wrap=True, markup=False)
    colour = _COLOURS[run.verdict]
    console.print(f"[bold {colour}]{run.verdict.name}[/]: {run.verdict.meaning}", highlight=False)


def _figures(run: Run) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("stage")
    unit = "/s asked" if run.options.is_open_loop else "users"
    for name in (
        unit,
        "requests",
        "errors",
        "photos/s",
        "p50 ms",
        "p95 ms",
        "p99 ms",
        "service p99",
        "in flight",
        "late p99",
        "CPU",
    ):
        table.add_column(name, justify="right")
    for part in [*run.parts, run.whole] if len(run.parts) > 1 else [run.whole]:
        table.add_row(*_row(run, part), style="bold" if part is run.whole else "")
    return table


def _row(run: Run, part: Figures) -> list[str]:
    little = run.little(part)
    return [
        escape(part.name),
        level(run, part),
        f"{part.requests}",
        f"{part.error_rate:.2%}",
        f"{part.throughput:.2f}",
        *(milliseconds(part.percentile_s(percent)) for percent in (50, 95, 99)),
        milliseconds(part.percentile_s(99, of="service")),
        "-" if little is None else f"{little[0]:.1f}",
        milliseconds(part.late_s(99)),
        f"{run.busiest(part):.0%}",
    ]


def _steps(run: Run) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("server")
    for name in ("answered", "failed", "batches", "mean batch", "waiting", "computing", "in all"):
        table.add_column(name, justify="right")
    for step in run.server.steps.values():
        table.add_row(
            escape(step.model),
            f"{step.succeeded}",
            f"{step.failed}",
            f"{step.executions}",
            f"{step.mean_batch:.2f}",
            *(milliseconds(value) for value in (step.mean_queue_s, step.mean_compute_s, step.mean_total_s)),
        )
    return table
