"""Parsers of numbers, for the options of the commands."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable


def integer(least: int, most: int) -> Callable[[str], int]:
    """Return the parser of an integer between two others, both included."""

    def parse(text: str) -> int:
        with contextlib.suppress(ValueError):
            if least <= (value := int(text)) <= most:
                return value
        raise argparse.ArgumentTypeError(f"invalid value {text!r}: expected an integer from {least} to {most}")

    return parse


def number(least: float, most: float) -> Callable[[str], float]:
    """Return the parser of a number between two others, both included."""

    def parse(text: str) -> float:
        with contextlib.suppress(ValueError):
            if least <= (value := float(text)) <= most:
                return value
        raise argparse.ArgumentTypeError(f"invalid value {text!r}: expected a number from {least:g} to {most:g}")

    return parse
