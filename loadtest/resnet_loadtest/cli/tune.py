"""``resnet-loadtest tune``: choose threads, instances, batch and queue delay for this machine, by measuring."""

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
HELP = (
    "measure a few settings of an ensemble on this machine and write the best as a named model config; Triton uses it "
    "with --model-config-name=tuned"
)

_OPTIONS = ("url", "model", "images", "processes")
_NO_START = "--no-start"
_LATENCIES = ("response", "service", "mean", "max")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Those of a run that make sense here, and how long to measure."""
    option_list.add_to(parser, only=_OPTIONS)
    parser.add_argument("--slo", metavar="SLO", help="lowest latency instead of throughput, such as p99<=100ms")
    parser.add_argument(
        "--rate",
        metavar="RATE",
        help="requests per second at which --slo is measured (default: 70%% of what the present setting answers)",
    )
    parser.add_argument(
        "--repository", type=Path, default=Path("model_repository"), metavar="DIR",
        help="the model repository that the server serves, on this machine (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--start", action=argparse.BooleanOptionalAction,
        help="start a server of the repository for the time of the measurement (default: if no --url is given)",
    )  # fmt: skip
    parser.add_argument("--callers", type=int, default=16, metavar="N", help="at once (default: %(default)s)")
    parser.add_argument(
        "--rounds", type=int, default=4, metavar="N", help="measurements of each (default: %(default)s)"
    )
    parser.add_argument(
        "--round-s", type=float, default=3.0, metavar="S", help="seconds of a measurement (default: %(default)s)"
    )
    parser.add_argument("--dry-run", action="store_true", help="measure and print, but write nothing")


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Tune; 0 if the choice is written or needs no file, 1 if no setting meets the objective."""
    options = option_list.resolve(vars(arguments))
    objective = _objective(options.slo)
    if arguments.rate and objective is None:
        raise UsageError("--rate is the rate at which --slo is measured: give both, or leave it out")
    if min(arguments.callers, arguments.rounds) < 1 or not 0 < arguments.round_s < math.inf:
        raise UsageError("--callers, --rounds and --round-s must be above 0")
    if arguments.start or (arguments.start is None and not _has_url(arguments)):
        _become_server(arguments, options.model)
    enable_gevent()
    logging.basicConfig(level=logging.ERROR)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # like Ctrl-C: the server gets its configs back
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
        callers=arguments.callers,
        rounds=arguments.rounds,
        round_s=arguments.round_s,
        dry_run=arguments.dry_run,
        command=[word for word in arguments.argv if word != _NO_START],
    )
    try:
        return tune(plan, console)
    except ResnetClientError as exc:
        raise LoadTestError(f"{exc}; nothing was written") from exc


def _objective(text: str) -> Objective | None:
    found = parse(text)
    if len(found) > 1 or any(objective.metric not in _LATENCIES for objective in found):
        raise UsageError(f"invalid --slo {text!r}: expected one objective on the latency, such as p99<=100ms")
    return found[0] if found else None


def _has_url(arguments: argparse.Namespace) -> bool:
    return bool(arguments.url or os.environ.get(option_list.variable("url")))


def _become_server(arguments: argparse.Namespace, model: str) -> NoReturn:
    """Replace this process by ``resnet-serve``, which runs the command again and ends with it."""
    if arguments.url:
        raise UsageError("--start starts a server of its own: leave out --url")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    program = shutil.which("resnet-serve", path=path)
    if program is None:
        raise LoadTestError("there is no resnet-serve: pip install 'resnet50-triton[serve]', or give a --url")
    command = shlex.join([sys.executable, "-m", "resnet_loadtest", *arguments.argv, _NO_START])
    server = [program, "--repository", str(arguments.repository), "--port", "0", "--run", command, "--exit-after"]
    os.execv(program, [*server, "--", "--model-control-mode=explicit", f"--load-model={model}"])  # noqa: S606  # no shell
