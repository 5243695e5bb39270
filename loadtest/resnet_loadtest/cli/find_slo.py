"""``resnet-loadtest find-slo``: the highest rate of Poisson arrivals that meets the objective."""

from __future__ import annotations

import argparse
import dataclasses
import logging
import math

from rich.console import Console

from resnet_loadtest import enable_gevent
from resnet_loadtest import options as option_list
from resnet_loadtest.cli import Command, recording, stem, write_reports
from resnet_loadtest.errors import UsageError

_LEFT_OUT = {"profile", "rate", "users", "spawn_rate", "arrivals", "slo_per", "duration_s"}
_FOUND, _NOT_FOUND = 0, 2


def _add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of a run that apply to a search, and those of the search."""
    names = {option.name for option in dataclasses.fields(option_list.Options)} - _LEFT_OUT
    option_list.add_to(parser, only=names)
    parser.add_argument("--repeats", type=int, default=3, metavar="N", help="Number of searches (default: %(default)s)")
    parser.add_argument(
        "--precision",
        type=float,
        default=5.0,
        metavar="PERCENT",
        help="Stop a search when the highest passing and the lowest failing rate differ by at most this percentage "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--trial-s",
        type=float,
        default=20.0,
        metavar="SECONDS",
        help="Minimum duration of one trial (default: %(default)s)",
    )
    parser.add_argument(
        "--first-rate",
        type=float,
        metavar="RATE",
        help="First rate, in requests per second (default: measured capacity)",
    )
    parser.add_argument(
        "--target-rate",
        type=float,
        metavar="RATE",
        help="Print how many servers this many requests per second need",
    )


def _run(arguments: argparse.Namespace, console: Console) -> int:
    """Search; 0 if a rate was found, 2 if the generator was the limit or nothing passed."""
    arguments.rate = option_list.AUTO_RATE
    options = option_list.resolve({**vars(arguments), "users": None, "duration_s": None})
    options = dataclasses.replace(options, profile="steady", arrivals="poisson", slo_per="run")
    if not options.slo:
        raise UsageError("find-slo requires --slo, such as p99<=150ms")
    for name in ("precision", "trial_s", "first_rate", "target_rate"):
        if (given := getattr(arguments, name)) is not None and not 0 < given < math.inf:
            raise UsageError(f"invalid --{name.replace('_', '-')} {given:g}: expected a number above 0")
    options.check()
    enable_gevent()
    logging.basicConfig(level=logging.ERROR)
    from resnet_loadtest import runner
    from resnet_loadtest.report import write_search
    from resnet_loadtest.search import Search

    with recording(options.out, options.name or stem("find-slo")) as recorder:
        search = Search(
            options,
            runner.run,
            repeats=max(1, arguments.repeats),
            precision=arguments.precision / 100,
            trial_s=arguments.trial_s,
            console=console,
            target_rate=arguments.target_rate,
        )
        result = search.find(arguments.first_rate or runner.measure_capacity(options))
        verdict = "[bold green]FOUND[/]" if result.is_proven else "[bold yellow]INVALID[/]"
        console.print(f"{verdict}: {result.message}", highlight=False, soft_wrap=True)
        write_reports(console, lambda folder: write_search(result, folder, recorder.path.stem), options.out)
    if result.trials[-1].run.ended:
        return result.trials[-1].run.verdict.exit_code
    return _FOUND if result.is_proven else _NOT_FOUND


FIND_SLO = Command(
    "find-slo",
    "Find the highest request rate (Poisson arrivals) that meets --slo, with a confidence interval",
    _add_options,
    _run,
    {
        _FOUND: "FOUND: the rate was found, and its 95 % interval is narrower than half of the rate",
        _NOT_FOUND: "INVALID: no reliable rate was found; the message gives the reason",
    },
)
