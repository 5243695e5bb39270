"""``resnet-loadtest report`` writes the reports of a run again from its JSON; ``compare`` compares two runs."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from resnet_loadtest.cli import RUN_RESULTS, Command, write_reports
from resnet_loadtest.compare import Change, Ratio, compare, error_rates_differ
from resnet_loadtest.metrics import milliseconds

if TYPE_CHECKING:
    from resnet_loadtest.analysis import Run  # needs pydantic, which the base installation does not have

_MUST_AGREE = ("profile", "mix", "batch", "arrivals", "rate", "users", "duration_s")
_PASS, _REGRESSION, _INVALID = 0, 1, 2


def _add_report_options(parser: argparse.ArgumentParser) -> None:
    """Add the file of the run."""
    parser.add_argument("json", type=Path, metavar="RUN", help="RUN.json, or RUN.partial of a run that was killed")


def _report(arguments: argparse.Namespace, console: Console) -> int:
    """Read, summarise, write next to the file; returns the run's exit code."""
    from resnet_loadtest import records
    from resnet_loadtest.report import write_all
    from resnet_loadtest.report.summary import print_summary

    path: Path = arguments.json
    finished = records.read(path)
    print_summary(finished, console)
    write_reports(console, lambda folder: write_all(finished, folder, path.stem), path.parent)
    return finished.verdict.exit_code


REPORT = Command(
    "report",
    "Write summary and reports again from the JSON of a run, or from what a killed run has left",
    _add_report_options,
    _report,
    RUN_RESULTS,
)


def _add_compare_options(parser: argparse.ArgumentParser) -> None:
    """Add the two runs and the tolerance."""
    parser.add_argument("first", type=Path, metavar="A.json", help="JSON report of the reference run")
    parser.add_argument("second", type=Path, metavar="B.json", help="JSON report of the run to compare")
    parser.add_argument(
        "--tolerance",
        type=float,
        default=5.0,
        metavar="PERCENT",
        help="Largest rise of a percentile, or drop of throughput, that is not a regression (default: %(default)s)",
    )


def _compare(arguments: argparse.Namespace, console: Console) -> int:
    """Compare; returns the exit code."""
    from resnet_loadtest import records

    first, second = (records.read(path) for path in (arguments.first, arguments.second))
    ratios = compare(first, second, tolerance=arguments.tolerance / 100)
    console.print(_table(ratios))
    console.print(f"errors: {first.whole.error_rate:.2%} → {second.whole.error_rate:.2%}", highlight=False)
    if warnings := _warnings(first, second):
        for warning in warnings:
            console.print(f"  warning: {warning}", highlight=False, markup=False)
        console.print("[bold yellow]INVALID[/]: the runs cannot be compared")
        return _INVALID
    if error_rates_differ(first, second) or any(ratio.change is Change.WORSE for ratio in ratios):
        console.print("[bold red]REGRESSION[/]: B is significantly worse than A, by more than the tolerance")
        return _REGRESSION
    if all(ratio.change is Change.UNKNOWN for ratio in ratios):
        console.print("[bold yellow]INVALID[/]: too few requests or responses to compare")
        return _INVALID
    console.print("[bold green]PASS[/]: no regression")
    return _PASS


COMPARE = Command(
    "compare",
    "Compare two runs",
    _add_compare_options,
    _compare,
    {
        _PASS: "PASS: no regression",
        _REGRESSION: "REGRESSION: B is worse than A",
        _INVALID: "INVALID: the runs cannot be compared",
    },
)


def _warnings(first: Run, second: Run) -> list[str]:
    found = [
        f"{name} is limited by its load generator: {run.generator_finding.text}"
        for name, run in (("A", first), ("B", second))
        if run.generator_finding
    ]
    found += [f"{name} is not complete: {run.ended.reason}" for name, run in (("A", first), ("B", second)) if run.ended]
    plain = first.options.to_dict(), second.options.to_dict()
    found += [
        f"A and B have different options: {name} is {plain[0][name]} in A and {plain[1][name]} in B"
        for name in _MUST_AGREE
        if plain[0][name] != plain[1][name]
    ]
    return found


def _table(ratios: list[Ratio]) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("metric")
    for name in ("A", "B", "B/A", "95 % interval"):
        table.add_column(name, justify="right")
    table.add_column("meaning")
    for ratio in ratios:
        is_rate = ratio.name == "throughput"
        values = [f"{v:.2f}/s" if is_rate else milliseconds(v) for v in (ratio.first, ratio.second)]
        span = f"{ratio.lower:.3f} to {ratio.upper:.3f}"
        table.add_row(ratio.name, *values, f"{ratio.ratio:.3f}", span, ratio.change.value)
    return table
