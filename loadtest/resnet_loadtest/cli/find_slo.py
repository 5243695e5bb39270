"""``resnet-loadtest find-slo``: the highest rate of Poisson arrivals that meets the objective."""

from __future__ import annotations

import argparse
import dataclasses
import math

from rich.console import Console
from rich.text import Text

from resnet_loadtest import options as option_list
from resnet_loadtest.cli import Command, add_option, prepare_load, recording, stem, write_reports
from resnet_loadtest.errors import UsageError
from resnet_loadtest.options import COUNT, POSITIVE, TIMEOUT

_LEFT_OUT = ("rate", "users", "spawn_rate", "duration_s")
_FIXED = {"profile": "steady", "arrivals": "poisson", "slo_per": "run"}
_FOUND, _NOT_FOUND = 0, 2


def _add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of a run that apply to a search, and those of the search."""
    names = {option.name for option in dataclasses.fields(option_list.Options)} - {*_FIXED, *_LEFT_OUT}
    option_list.add_to(parser, only=names)
    percent, rate = POSITIVE._replace(metavar="PERCENT"), POSITIVE._replace(metavar="RATE")
    add_option(parser, "--repeats", COUNT, 3, "Number of searches")
    add_option(parser, "--precision", percent, 5.0, "End a search when passing and failing rate differ by no more")
    add_option(parser, "--trial-s", TIMEOUT, 20.0, "Minimum duration of one trial")
    add_option(parser, "--first-rate", rate, None, "First rate, in requests per second (default: measured capacity)")
    add_option(parser, "--target-rate", rate, None, "Print how many servers this many requests per second need")


def _run(arguments: argparse.Namespace, console: Console) -> int:
    """Search; 0 if a rate was found, 2 if the generator was the limit or nothing passed."""
    given = option_list.resolve({**vars(arguments), **_FIXED})
    rate = arguments.first_rate or option_list.AUTO_RATE
    options = dataclasses.replace(given, rate=rate, users=None, duration_s=None)
    if not options.slo:
        raise UsageError("find-slo requires --slo, such as p99<=150ms")
    options.check()
    prepare_load()
    from resnet_loadtest import runner
    from resnet_loadtest.search import search

    with recording(options.out, options.name or stem("find-slo")) as recorder:
        result = search(
            runner.with_measured_rate(options, console),
            runner.run,
            console,
            repeats=arguments.repeats,
            precision=arguments.precision / 100,
            trial_s=arguments.trial_s,
        )
        verdict = ("FOUND", "bold green") if result.is_proven else ("INVALID", "bold yellow")
        console.print(Text.assemble(verdict, f": {result.message}"))
        if arguments.target_rate and result.found and result.is_proven:
            servers, each = math.ceil(arguments.target_rate / result.found[1]), f"{result.found[1]:.2f} requests/s each"
            console.print(f"servers for {arguments.target_rate:g} requests/s: {servers} ({each})")
        write_reports(console, result, options.out, recorder.path.stem)
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
