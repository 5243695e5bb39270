"""Reads the cause of a failed start out of Triton's log."""

from __future__ import annotations

import re
from pathlib import Path

_TAIL_LINES = 20
# What the log says → what to do. The first that matches anywhere in the log is told.
_REMEDIES = (
    (r"the artifact (\S+) is missing", "an artifact is missing: run resnet-build"),
    (r"No module named '([\w.]+)'", "a package is missing: pip install 'resnet50-triton[serve]'"),
    (r"Address already in use", "a port is taken: choose another --port, or --port 0 for free ones"),
    (
        r"error while loading shared libraries: (\S+)",
        "a shared library is missing; install it with the system's packages",
    ),
    (r"No space left on device|shm_open|shared memory", "shared memory is full: free /dev/shm or enlarge it"),
    (
        r"unrecognized option|unrecognised option",
        "tritonserver does not know one of the flags passed through to it",
    ),
)


def tail(log: Path, lines: int = _TAIL_LINES) -> str:
    """Return the last lines of the log."""
    return "\n".join(_read(log).splitlines()[-lines:])


def cause(log: Path) -> str | None:
    """Return one sentence with the cause and the remedy, or None if the log tells none that is known."""
    text = _read(log)
    for pattern, remedy in _REMEDIES:
        if match := re.search(pattern, text):
            return f"{remedy} («{match.group(0)}»)"
    return None


def _read(log: Path) -> str:
    try:
        return log.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return ""
