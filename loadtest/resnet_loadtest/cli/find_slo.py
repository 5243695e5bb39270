"""``resnet-loadtest find-slo``: the highest Poisson rate that meets the objective."""

from __future__ import annotations

import argparse
import dataclasses
import logging
from typing import TYPE_CHECKING

from resnet_loadtest import greenlets
from resnet_loadtest import options as option_list
from resnet_loadtest.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console

NAME = "find-slo"
HELP = "the highest Poisson rate that meets --slo, by bisection, repeated, with a confidence interval"

_LEFT_OUT = {"profile", "rate", "users", "spawn_rate", "arrivals", "slo_per", "duration_s"}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Those of a run that apply to a search, and how thoroughly to search."""
    names = {option.name for option in dataclasses.fields(option_list.Options)} - _LEFT_OUT
    option_list.add_to(parser, only=names)
    parser.add_argument(
        "--repeats", type=int, default=3, metavar="N", help="independent searches (default: %(default)s)"
    )
    parser.add_argument(
        "--precision", type=float, default=5.0, metavar="PERCENT", help="of each search (default: %(default)s)"
    )
    parser.add_argument(
        "--trial", type=float, default=20.0, metavar="S", help="shortest trial in seconds (default: %(default)s)"
    )
    parser.add_argument("--start", type=float, metavar="RATE", help="first rate (default: measured capacity)")


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Search; 0 if a rate was found, 2 if the generator was the limit or nothing passed."""
    arguments.rate = option_list.AUTO_RATE
    options = option_list.resolve({**vars(arguments), "users": None, "duration_s": None})
    options = dataclasses.replace(options, profile="steady", arrivals="poisson", slo_per="run")
    if not options.slo:
        raise UsageError("expected --slo, such as p99<=150ms")
    greenlets.enable()
    logging.basicConfig(level=logging.ERROR)
    from resnet_loadtest.trials import Effort, Search

    effort = Effort(
        repeats=max(1, arguments.repeats),
        precision=arguments.precision / 100,
        trial_s=arguments.trial,
        start=arguments.start,
    )
    return Search(options.check(), effort, console).run()
