"""``resnet-loadtest report``: makes the page and the XML anew from the JSON of a run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from resnet_loadtest.errors import UsageError

if TYPE_CHECKING:
    import argparse

    from rich.console import Console

NAME = "report"
HELP = "make summary, page and XML anew from the JSON of a run"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Which run."""
    parser.add_argument("json", type=Path, metavar="RUN.json")


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Read, summarise, write beside it; returns the run's exit code."""
    from resnet_loadtest.report import document
    from resnet_loadtest.report.files import write_all
    from resnet_loadtest.report.terminal import summarise

    path: Path = arguments.json
    try:
        finished = document.read(path)
    except ValueError as exc:
        raise UsageError(str(exc)) from exc
    summarise(finished, console)
    for written in write_all(finished, path.parent, path.stem):
        console.print(f"  {written}", highlight=False, soft_wrap=True, markup=False)
    return finished.verdict.exit_code
