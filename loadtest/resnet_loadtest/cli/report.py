"""``resnet-loadtest report`` writes the reports of a run again from its JSON; ``compare`` compares two runs."""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console

from resnet_loadtest.cli import RUN_RESULTS, Command, add_option, write_reports
from resnet_loadtest.compare import Outcome, compare
from resnet_loadtest.options import Kind


def _add_report_options(parser: argparse.ArgumentParser) -> None:
    """Add the file of the run."""
    parser.add_argument("json", type=Path, metavar="RUN", help="RUN.json, or RUN.partial of a run that was killed")


def _report(arguments: argparse.Namespace, console: Console) -> int:
    """Read, summarise, write next to the file; returns the run's exit code."""
    from resnet_loadtest import records
    from resnet_loadtest.report.summary import print_summary

    path: Path = arguments.json
    finished = records.read(path)
    print_summary(finished, console)
    write_reports(console, finished, path.parent, path.stem)
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
    about = "A significant change for the worse by more than this is a regression"
    add_option(parser, "--tolerance", Kind(float, "PERCENT", "a number"), 5.0, about)


def _compare(arguments: argparse.Namespace, console: Console) -> int:
    """Compare; returns the exit code."""
    from resnet_loadtest import records
    from resnet_loadtest.report.summary import print_comparison

    first, second = (records.read(path) for path in (arguments.first, arguments.second))
    compared = compare(first, second, tolerance=arguments.tolerance / 100)
    print_comparison(compared, console)
    write_reports(console, compared, arguments.second.parent, f"{arguments.first.stem}-{arguments.second.stem}")
    return compared.outcome.exit_code


COMPARE = Command(
    "compare",
    "Compare two runs and write the page A-B.html next to B.json",
    _add_compare_options,
    _compare,
    {outcome.exit_code: f"{outcome.name}: {outcome.meaning}" for outcome in Outcome},
)
