"""The summary of a run: tables for terminal and page, live progress and the final output."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from rich.console import Console
from rich.table import Table
from rich.text import Text

from resnet_loadtest.analysis import Run, Verdict
from resnet_loadtest.compare import Change, Comparison, Outcome, Ratio
from resnet_loadtest.metrics import Metrics, milliseconds
from resnet_loadtest.options import Options
from resnet_loadtest.samples import Chunk, only_answered
from resnet_loadtest.schedule import Stage
from resnet_loadtest.search import Trial
from resnet_loadtest.workloads import addresses

Rows: TypeAlias = list[dict[str, str]]
"""A table: each row is a column's name → text."""

_COLOURS = {Verdict.PASS: "green", Verdict.MEASURED: "cyan", Verdict.FAIL: "red"}
_LINE_S = 5.0
# A terminal is narrower than the page.
_ON_THE_PAGE_ONLY = {"p99.9", "max", "busy"}


class Progress:
    """Progress of a run: one changing line on a terminal, else a line every five seconds."""

    def __init__(self, console: Console, options: Options) -> None:
        self._console = console
        self._unit = "requests/s" if options.is_open_loop else "users"
        self._next_s = 0.0

    def __call__(self, now_s: float, stage: Stage, chunks: list[Chunk]) -> None:
        """Print the progress."""
        if now_s < self._next_s:
            return
        self._next_s = now_s + (1.0 if self._console.is_terminal else _LINE_S)
        answered = sum(len(only_answered(chunk.samples)) for chunk in chunks)
        failed = sum(len(chunk.samples) for chunk in chunks) - answered
        level = f"{stage.name:<12} {stage.level_at(now_s):7.1f} {self._unit}"
        line = f"{max(0, now_s):5.0f} s  {level}  answered {answered:6}  failed {failed:4}"
        self._console.print(line, end="\r" if self._console.is_terminal else "\n")


def print_summary(run: Run, console: Console) -> None:
    """Print the results of a run."""
    options = run.options
    where = f"{options.mix} on {options.model} at {addresses(options)}"
    console.print(f"\n{options.profile}, {options.loop}, {where}")
    for rows in (stage_rows(run), model_rows(run)):
        if rows:
            console.print(_table(rows), soft_wrap=False)
    for check in run.checks:
        word, _, rest = check.message.partition(":")
        console.print(Text.assemble("  ", (word, _colour(check.verdict)), f":{rest}"))
    for part, reason in run.findings:
        console.print(f"  not valid: {part}: {reason}", style="yellow")
    if run.whole.failures:
        console.print(f"  failed requests: {run.whole.failure_reasons}", style="yellow")
    console.print(f"  Bottleneck: {run.bottleneck}")
    console.print(Text.assemble((run.verdict.label, f"bold {_colour(run.verdict)}"), f": {run.meaning}"))


def print_comparison(compared: Comparison, console: Console) -> None:
    """Print the differences of two runs."""
    console.print(_table(comparison_rows(compared)), soft_wrap=False)
    for warning in compared.warnings:
        console.print(f"  not valid: {warning}", style="yellow")
    colour = {Outcome.PASS: "green", Outcome.REGRESSION: "red", Outcome.INVALID: "yellow"}[compared.outcome]
    console.print(Text.assemble((compared.outcome.name, f"bold {colour}"), f": {compared.outcome.meaning}"))


def _colour(verdict: Verdict) -> str:
    return _COLOURS.get(verdict, "yellow")


def _table(rows: Rows) -> Table:
    columns = [name for name in rows[0] if name not in _ON_THE_PAGE_ONLY]
    table = Table(box=None, pad_edge=False)
    for name in columns:
        table.add_column(name, justify="left" if name is columns[0] else "right")
    for row in rows:
        table.add_row(*(Text(row[name]) for name in columns), style="bold" if row[columns[0]] == "whole run" else "")
    return table


def stage_rows(run: Run) -> Rows:
    """Each stage, then the whole run."""
    level = "offered/s" if run.options.is_open_loop else "users"
    return [
        {
            "stage": part.name,
            "verdict": run.verdict_of(part).name,
            level: f"{part.level:.4g}",
            "requests": str(part.requests),
            "failed": f"{part.error_rate:.2%}",
            "images/s": f"{part.throughput:.2f}",
            **_percentiles(part, 50, 95, 99, 99.9),
            "max": milliseconds(part.max_s),
            "service p99": milliseconds(part.percentile_s(99, "service")),
            "sent late, p99": milliseconds(part.late_s(99)),
            "in flight": f"{part.in_flight:.1f}",
            "generator CPU": f"{run.generator_cpu(part):.0%}",
        }
        for part in run.shown
    ]


def model_rows(run: Run) -> Rows:
    """Each model's requests and times, from the server's statistics."""
    return [
        {
            "model": step.model,
            "answered": str(step.succeeded),
            # Triton counts a failed request of an ensemble twice, and not at the step that failed.
            "failed": "-" if step.model in run.server.ensembles else str(step.failed),
            "batches": str(step.executions),
            "images per batch": f"{step.mean_batch:.2f}",
            "queue": milliseconds(step.mean_queue_s),
            "compute": milliseconds(step.mean_compute_s),
            "total": milliseconds(step.mean_total_s),
            "busy": "-" if step.model in run.server.ensembles else f"{step.busy(run.wall_s):.0%}",
        }
        for step in run.server.steps.values()
    ]


def trial_rows(trials: Sequence[Trial]) -> Rows:
    """Each trial of a search."""
    return [
        {
            "search": str(trial.repeat),
            "requests/s": f"{trial.rate:.2f}",
            "requests": str(trial.run.whole.requests),
            "failed": f"{trial.run.whole.error_rate:.2%}",
            **_percentiles(trial.run.whole, 50, 95, 99),
            "verdict": trial.run.verdict.label,
            "not valid because": trial.reason or "-",
        }
        for trial in trials
    ]


def comparison_rows(compared: Comparison) -> Rows:
    """Each metric of two runs with its verdict."""
    failed = {
        "metric": "failed",
        "A": f"{compared.first.whole.error_rate:.2%}",
        "B": f"{compared.second.whole.error_rate:.2%}",
        "B/A": "-",
        "95 % interval": "-",
        "verdict": (Change.WORSE if compared.has_more_errors else Change.SAME).value,
    }
    return [*map(_ratio, compared.ratios), failed]


def _ratio(ratio: Ratio) -> dict[str, str]:
    def show(value: float) -> str:
        return f"{value:.2f}/s" if ratio.name == "throughput" else milliseconds(value)

    return {
        "metric": ratio.name,
        "A": show(ratio.first),
        "B": show(ratio.second),
        "B/A": f"{ratio.ratio:.3f}" if ratio.is_bounded else "-",
        "95 % interval": f"{ratio.lower:.3f} to {ratio.upper:.3f}" if ratio.is_bounded else "-",
        "verdict": ratio.change.value,
    }


def _percentiles(part: Metrics, *percents: float) -> dict[str, str]:
    return {f"p{percent:g}": milliseconds(part.percentile_s(percent)) for percent in percents}
