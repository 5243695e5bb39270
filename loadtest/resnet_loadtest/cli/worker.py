"""``resnet-loadtest worker``: a process that generates part of the load for a master, on this or another machine."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from resnet_loadtest import greenlets
from resnet_loadtest.errors import LoadTestError

if TYPE_CHECKING:
    import argparse

    from rich.console import Console

NAME = "worker"
HELP = "generate part of the load for a `run --expect-workers` elsewhere"


def add_options(parser: argparse.ArgumentParser) -> None:
    """The master's address."""
    parser.add_argument("--master-host", default="127.0.0.1", metavar="HOST", help="default: %(default)s")
    parser.add_argument("--master-port", type=int, default=5557, metavar="PORT", help="default: %(default)s")


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Work until the master quits; returns the exit code."""
    del console
    greenlets.enable()
    logging.basicConfig(level=logging.ERROR)
    from resnet_loadtest.workers import Worker

    try:
        Worker(arguments.master_host, arguments.master_port).run()
    except ConnectionError as exc:
        raise LoadTestError(f"no master at {arguments.master_host}:{arguments.master_port}") from exc
    return 0
