"""The parser of numbers, for the options of the commands."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable
from typing import TypeVar

Number = TypeVar("Number", int, float)


def between(kind: Callable[[str], Number], least: Number, most: Number) -> Callable[[str], Number]:
    """Return the parser of a number, ``int`` or ``float``, between two others, both included."""

    def parse(text: str) -> Number:
        with contextlib.suppress(ValueError):
            if least <= (value := kind(text)) <= most:
                return value
        expected = "an integer" if kind is int else "a number"
        raise argparse.ArgumentTypeError(f"invalid value {text!r}: expected {expected} from {least} to {most}")

    return parse
