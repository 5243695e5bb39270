"""``resnet-loadtest tune``: measure settings of an ensemble on this machine and write the best one."""

from __future__ import annotations

import argparse
import dataclasses
import logging
import math
import os
import shlex
import shutil
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from resnet_loadtest import enable_gevent
from resnet_loadtest import options as option_list
from resnet_loadtest.errors import LoadTestError, UsageError
from resnet_loadtest.slo import Objective, parse

if TYPE_CHECKING:
    from rich.console import Console

NAME = "tune"
HELP = "Measure settings of an ensemble on this machine and write the best as the model config `tuned`"

RESULTS = {0: "success", 1: "no setting meets --slo"}

_OPTIONS = ("url", "model", "images", "processes")
_NO_START = "--no-start"
_LATENCIES = ("response", "service", "mean", "max")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of a run that apply, and those of the measurement."""
    option_list.add_to(parser, only=_OPTIONS)
    parser.add_argument(
        "--slo", metavar="SLO", help="Minimise this latency instead of maximising throughput, such as p99<=100ms"
    )
    parser.add_argument(
        "--rate",
        metavar="RATE",
        help="Requests per second at which --slo is measured (default: 70%% of the throughput of the present setting)",
    )
    parser.add_argument(
        "--repository", type=Path, default=Path("model_repository"), metavar="DIR",
        help="Model repository that the server serves, on this machine (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--start", action=argparse.BooleanOptionalAction,
        help="Start a server of the repository for the measurement (default: if --url is not given)",
    )  # fmt: skip
    parser.add_argument("--users", type=int, default=16, metavar="N", help="Closed-loop users (default: %(default)s)")
    parser.add_argument(
        "--rounds", type=int, default=4, metavar="N", help="Measurements of each setting (default: %(default)s)"
    )
    parser.add_argument(
        "--trial-s", type=float, default=3.0, metavar="SECONDS",
        help="Minimum duration of one measurement (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--dry-run", action="store_true", help="Measure and print, but write no files")


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Tune; returns 0, or 1 if no setting meets the objective."""
    options = option_list.resolve(vars(arguments))
    objective = _objective(options.slo)
    if arguments.rate and objective is None:
        raise UsageError("--rate requires --slo")
    if min(arguments.users, arguments.rounds) < 1 or not 0 < arguments.trial_s < math.inf:
        raise UsageError("--users, --rounds and --trial-s must be above 0")
    if arguments.start or (arguments.start is None and not _has_url(arguments)):
        _become_server(arguments, options.model)
    enable_gevent()
    logging.basicConfig(level=logging.ERROR)
    # It raises KeyboardInterrupt, also during an import, so that the configs of the server are restored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    from resnet_client import ResnetClientError

    from resnet_loadtest.tune import Plan, tune

    plan = Plan(
        options=dataclasses.replace(
            options,
            mix="ClassifyGrpc",
            profile="steady",
            arrivals="poisson",
            warm_up_s=0.0,
            rate=None if options.rate == option_list.AUTO_RATE else options.rate,
        ),
        repository=arguments.repository,
        objective=objective,
        users=arguments.users,
        rounds=arguments.rounds,
        trial_s=arguments.trial_s,
        dry_run=arguments.dry_run,
        command=[word for word in arguments.argv if word != _NO_START],
    )
    try:
        return tune(plan, console)
    except ResnetClientError as exc:
        raise LoadTestError(f"{exc}; no file was written") from exc


def _objective(text: str) -> Objective | None:
    found = parse(text)
    if len(found) > 1 or any(objective.metric not in _LATENCIES for objective in found):
        raise UsageError(f"invalid --slo {text!r}: expected one objective on the latency, such as p99<=100ms")
    return found[0] if found else None


def _has_url(arguments: argparse.Namespace) -> bool:
    return bool(arguments.url or os.environ.get(option_list.variable("url")))


def _become_server(arguments: argparse.Namespace, model: str) -> NoReturn:
    """Replace this process by ``resnet-serve``, which runs the command again and stops after it."""
    if arguments.url:
        raise UsageError("--start and --url cannot be used together")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    program = shutil.which("resnet-serve", path=path)
    if program is None:
        raise LoadTestError("resnet-serve is missing: pip install '.[serve]' in the project's folder, or use --url")
    command = shlex.join([sys.executable, "-m", "resnet_loadtest", *arguments.argv, _NO_START])
    server = [program, "--repository", str(arguments.repository), "--port", "0", "--models", model]
    os.execv(program, [*server, "--run", command, "--exit-after"])  # noqa: S606  # no shell
