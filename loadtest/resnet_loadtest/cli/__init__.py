"""The commands of ``resnet-loadtest``."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import NamedTuple

from rich.console import Console


class Command(NamedTuple):
    """A command.

    Attributes:
        name: on the command line.
        help: one line for ``--help``.
        add_options: declares its options.
        run: runs the command; returns the exit code.
    """

    name: str
    help: str
    add_options: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace, Console], int]
