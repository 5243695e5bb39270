"""``resnet-loadtest run``: one run, its reports, its verdict."""

from __future__ import annotations

import datetime
import logging
from typing import TYPE_CHECKING

from resnet_loadtest import greenlets
from resnet_loadtest import options as option_list

if TYPE_CHECKING:
    import argparse

    from rich.console import Console

NAME = "run"
HELP = "generate load, print a summary, write the reports, end with a verdict"


def add_options(parser: argparse.ArgumentParser) -> None:
    """All options."""
    option_list.add_to(parser)


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Run and report; returns the exit code."""
    options = option_list.resolve(vars(arguments)).check()
    greenlets.enable()
    logging.basicConfig(level=logging.ERROR)  # Locust logs each user that it starts
    from resnet_loadtest import runner
    from resnet_loadtest.report import write_all
    from resnet_loadtest.report.terminal import Progress, print_summary

    options = runner.with_measured_rate(options, console)
    finished = runner.run(options, Progress(console))
    print_summary(finished, console)
    now = datetime.datetime.now().astimezone()
    stem = options.name or f"{options.profile}-{now:%Y%m%d-%H%M%S}"
    for path in write_all(finished, options.out, stem):
        console.print(f"  {path}", highlight=False, soft_wrap=True, markup=False)
    return finished.verdict.exit_code
