"""``resnet-loadtest run``: one run, its reports, its verdict."""

from __future__ import annotations

import datetime
import logging
from typing import TYPE_CHECKING

from resnet_loadtest import options as option_list

if TYPE_CHECKING:
    import argparse

    from rich.console import Console

NAME = "run"
HELP = "make the load, print a summary, write the reports, give the verdict"


def add_options(parser: argparse.ArgumentParser) -> None:
    """All options."""
    option_list.add_to(parser)


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Do it; returns the exit code."""
    options = option_list.resolve(vars(arguments)).check()
    from resnet_loadtest import greenlets

    greenlets.enable()
    logging.basicConfig(level=logging.ERROR)  # Locust tells of each user it starts
    from resnet_loadtest.capacity import with_measured_rate
    from resnet_loadtest.report.files import write_all
    from resnet_loadtest.report.terminal import Progress, summarise
    from resnet_loadtest.runner import conduct

    options = with_measured_rate(options, console)
    finished = conduct(options, Progress(console))
    summarise(finished, console)
    now = datetime.datetime.now().astimezone()
    stem = options.name or f"{options.profile}-{now:%Y%m%d-%H%M%S}"
    for path in write_all(finished, options.out, stem):
        console.print(f"  {path}", highlight=False, soft_wrap=True)
    return finished.verdict.exit_code
