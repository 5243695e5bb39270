"""``resnet-loadtest tune``: measure settings of an ensemble on this machine and write the best one."""

from __future__ import annotations

import argparse
import dataclasses
import os
import shlex
import signal
import sys
from pathlib import Path
from typing import NoReturn

from rich.console import Console

from resnet_loadtest import options as option_list
from resnet_loadtest.cli import Command, add_option, prepare_load
from resnet_loadtest.errors import LoadTestError, UsageError
from resnet_loadtest.options import COUNT, TIMEOUT, Kind
from resnet_loadtest.slo import Objective, parse

_OPTIONS = ("url", "model", "images", "processes")
_LATENCIES = ("response", "service", "mean", "max")


def _add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of a run that apply, and those of the measurement."""
    option_list.add_to(parser, only=_OPTIONS)
    slo = "Minimise this latency instead of maximising throughput, such as p99<=100ms"
    rate = "Requests per second at which --slo is measured (default: 70%% of the throughput of the present setting)"
    repository = "Model repository that the server serves, on this machine"
    add_option(parser, "--slo", Kind(str, "SLO"), None, slo)
    add_option(parser, "--rate", Kind(str, "RATE"), None, rate)
    add_option(parser, "--repository", Kind(Path, "DIR"), Path("model_repository"), repository)
    add_option(parser, "--users", COUNT, 16, "Closed-loop users")
    add_option(parser, "--rounds", COUNT, 4, "Measurements of each setting")
    add_option(parser, "--trial-s", TIMEOUT, 3.0, "Minimum duration of one measurement")


def _run(arguments: argparse.Namespace, console: Console) -> int:
    """Tune; returns 0, or 1 if no setting meets the objective."""
    options = option_list.resolve(vars(arguments))
    objective = _objective(options.slo)
    if arguments.rate and objective is None:
        raise UsageError("--rate requires --slo")
    if not (arguments.url or os.environ.get(option_list.variable("url"))):
        _become_server(arguments.repository, options.model)
    prepare_load()
    # It raises KeyboardInterrupt, also during an import, so that the configs of the server are restored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    from resnet_client import ResnetClientError

    from resnet_loadtest.tune import Plan, tune

    rate = None if options.rate == option_list.AUTO_RATE else options.rate
    options = dataclasses.replace(
        options,
        mix="ClassifyGrpc",
        profile="steady",
        arrivals="poisson",
        warm_up_s=0.0,
        duration_s=arguments.trial_s,
        rate=None,
    )
    plan = Plan(options, arguments.repository, objective, rate, arguments.rounds)
    try:
        return tune(plan, console)
    except ResnetClientError as exc:
        raise LoadTestError(f"{exc}; no file was written") from exc


def _objective(text: str) -> Objective | None:
    found = parse(text)
    if len(found) > 1 or any(objective.metric not in _LATENCIES for objective in found):
        raise UsageError(f"invalid --slo {text!r}: expected one objective on the latency, such as p99<=100ms")
    return found[0] if found else None


def _become_server(repository: Path, model: str) -> NoReturn:
    """Replace this process by ``resnet-serve``, which runs the command again with its URL, and stops after it."""
    command = shlex.join([sys.executable, "-m", "resnet_loadtest", *sys.argv[1:]])
    server = [sys.executable, "-m", "resnet_serve", "--port", "0", "--run", command, "--exit-after"]
    server += ["--repository", str(repository), "--models", model]
    os.execv(sys.executable, server)  # noqa: S606  # no shell


TUNE = Command(
    "tune",
    "Measure settings of an ensemble on this machine and write the best as the model config `tuned`",
    _add_options,
    _run,
    {0: "success", 1: "no setting meets --slo"},
)
