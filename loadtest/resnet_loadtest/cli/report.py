"""``resnet-loadtest report``: writes the page and the XML again from the JSON of a run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

    from rich.console import Console

NAME = "report"
HELP = "write summary, page and XML again from the JSON of a run"


def add_options(parser: argparse.ArgumentParser) -> None:
    """The run's file."""
    parser.add_argument("json", type=Path, metavar="RUN.json")


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Read, summarise, write next to the file; returns the run's exit code."""
    from resnet_loadtest import records
    from resnet_loadtest.report import write_all
    from resnet_loadtest.report.terminal import print_summary

    path: Path = arguments.json
    finished = records.read(path)
    print_summary(finished, console)
    for written in write_all(finished, path.parent, path.stem):
        console.print(f"  {written}", highlight=False, soft_wrap=True, markup=False)
    return finished.verdict.exit_code
