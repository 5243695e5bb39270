"""Text from elsewhere, made safe to print: every command prints names, labels and messages of servers through it."""

from __future__ import annotations

import json
import sys


def printable(text: str, *, keep: str = "") -> str:
    r"""Escape what a terminal would obey instead of show, such as colours and cursor movements.

    Args:
        text: a label, a file's name, a server's message.
        keep: control characters to leave, such as a line break.

    Returns:
        The text with each character that is not printable as JSON has it, such as ``\u001b``; so JSON stays JSON.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else json.dumps(c)[1:-1] for c in text)


def show(text: str) -> None:
    """Print lines to standard output."""
    sys.stdout.write(printable(text, keep="\t\n") + "\n")


def report(text: str) -> None:
    """Print lines to standard output at once, for a person who waits."""
    show(text)
    sys.stdout.flush()


def warn(text: str) -> None:
    """Print lines to standard error."""
    sys.stderr.write(printable(text, keep="\t\n") + "\n")
