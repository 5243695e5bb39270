"""``resnet-loadtest check``: the same closed loop by us and by NVIDIA's perf_analyzer, in turn."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from resnet_loadtest import options as option_list
from resnet_loadtest.errors import UsageError

if TYPE_CHECKING:
    import argparse

    from rich.console import Console

NAME = "check"
HELP = "hold the load test against NVIDIA's perf_analyzer: same server, model, pixels and concurrency"

_OURS = ("url", "grpc_url", "http_url", "metrics_url", "model", "mix", "images", "users", "duration_s")
_MIXES = ("PixelsGrpc", "ClassifyGrpc")
_DURATION_S = 5.0


def add_options(parser: argparse.ArgumentParser) -> None:
    """Which perf_analyzer, how many rounds."""
    option_list.add_to(parser, only=_OURS)
    parser.add_argument("--perf-analyzer", type=Path, metavar="FILE", help="its program (default: the one in PATH)")
    parser.add_argument("--rounds", type=int, default=10, metavar="N", help="turns of each (default: %(default)s)")


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Measure in turn; 0 if the ratios of throughput and p50 lie within 10 %, else 1."""
    own = {"users": "1", "mix": _MIXES[0], "duration_s": f"{_DURATION_S}s"}
    given = {name: text for name, text in vars(arguments).items() if text is not None}
    options = option_list.resolve({**own, **given})
    if options.mix not in _MIXES:
        raise UsageError(f"check --mix is one of {', '.join(_MIXES)}")
    program = arguments.perf_analyzer or shutil.which("perf_analyzer")
    if program is None or not Path(program).is_file():
        raise UsageError("perf_analyzer is not here; docs/load-testing.md says where it comes from")
    from resnet_loadtest.generate import greenlets

    greenlets.enable()
    logging.basicConfig(level=logging.ERROR)
    from resnet_loadtest.perf_analyzer import side_by_side

    return side_by_side(options, Path(program).absolute(), arguments.rounds, console)
