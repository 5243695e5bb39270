"""The commands of ``resnet-loadtest``."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from typing import NamedTuple

from rich.console import Console

RUN_RESULTS = {
    0: "PASS (every objective is met) or MEASURED (a valid run without objectives)",
    1: "FAIL: an objective is not met",
    2: "INVALID: the results are not valid; warnings give the reasons",
}


class Command(NamedTuple):
    """A command.

    Attributes:
        name: on the command line.
        help: one line for ``--help``.
        add_options: declares its options.
        run: runs the command; returns the exit code.
        results: what the exit codes mean that `run` returns.
    """

    name: str
    help: str
    add_options: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace, Console], int]
    results: Mapping[int, str]
