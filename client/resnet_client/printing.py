"""Print untrusted text safely: every command prints names, labels and messages of servers through this module."""

from __future__ import annotations

import json
import sys


def printable(text: str, *, keep: str = "") -> str:
    r"""Escape control characters, which could change colours or move the cursor of a terminal.

    Args:
        text: a label, a file's name, a server's message.
        keep: control characters to keep, such as a line break.

    Returns:
        The text with each non-printable character escaped as in JSON, such as ``\u001b``; so JSON stays valid.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else json.dumps(c)[1:-1] for c in text)


def show(text: str) -> None:
    """Print lines to standard output."""
    sys.stdout.write(printable(text, keep="\t\n") + "\n")


def report(text: str) -> None:
    """Print lines to standard output and flush."""
    show(text)
    sys.stdout.flush()


def warn(text: str) -> None:
    """Print lines to standard error."""
    sys.stderr.write(printable(text, keep="\t\n") + "\n")
