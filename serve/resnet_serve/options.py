"""The parser of numbers, for the options of the commands."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable
from typing import TypeVar

Number = TypeVar("Number", int, float)


def between(kind: Callable[[str], Number], least: Number, most: Number) -> Callable[[str], Number]:
    """Return the parser of a number, ``int`` or ``float``, between two others, both included.

    An integer is written in decimal digits only; Python would also accept ``1_000``.
    """
    is_integer = kind is int

    def parse(text: str) -> Number:
        with contextlib.suppress(ValueError):
            is_written_plainly = not is_integer or (text.isascii() and text.isdigit())
            if is_written_plainly and least <= (value := kind(text)) <= most:
                return value
        expected = "an integer" if is_integer else "a number"
        raise argparse.ArgumentTypeError(f"invalid value {text!r}: expected {expected} from {least} to {most}")

    return parse
