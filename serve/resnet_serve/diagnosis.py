"""Reads the cause of a failed start out of Triton's log."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

_TAIL_LINES = 20
_PORT_TAKEN = "Address already in use"
_UNLOADABLE = r"the artifact \S+ cannot be loaded: [^\n]{0,300}"
# Line of the log → cause and remedy. The first one that matches anywhere in the log counts.
_REMEDIES = (
    (r"the artifact \S+ is missing", "an artifact is missing: run resnet-build"),
    (r"No module named '[\w.]+'", "a package is missing: pip install 'resnet50-triton[serve]'"),
    (_PORT_TAKEN, "a port is taken: choose another --port, or --port 0 for free ones"),
    (r"error while loading shared libraries: \S+", "a shared library is missing: install its package"),
    (r"No space left on device", "there is no space left, perhaps in /dev/shm: free some"),
    (r"unrecognized option '[^']*'", "tritonserver does not know one of the flags passed through to it"),
    (
        r"restricted api '[^']*' can not be specified in multiple config groups",
        "an API is closed twice: give --open-apis all with flags of your own that close APIs",
    ),
    (
        _UNLOADABLE,
        "an artifact is damaged, or its configuration is wrong: run resnet-build, or undo what was changed",
    ),
)
# These can go away without a person, when another process ends or frees memory.
_PASSING = (_PORT_TAKEN, "No space left on device", _UNLOADABLE)  # the last also when memory is short
# Triton's error lines, and the last line before it gives up.
_ERROR_LINE = re.compile(r"E\d{4} |error: ", re.MULTILINE)
# Logged on every machine without a GPU.
_HARMLESS = ("CudaDriverHelper", "NVML")


@dataclasses.dataclass(frozen=True)
class Cause:
    """Why a start failed.

    Attributes:
        message: the cause and the remedy, for people.
        is_lasting: whether every further start would fail as well until a person fixes something.
    """

    message: str
    is_lasting: bool


def cause(log: Path, since: int = 0) -> Cause | None:
    """Return the known cause of a failure that the log shows from byte ``since`` on, or None."""
    text = _read(log, since)
    for pattern, remedy in _REMEDIES:
        if match := re.search(pattern, text):
            return Cause(f"{remedy} ({match.group(0)})", is_lasting=pattern not in _PASSING)
    return None


def port_is_taken(log: Path, since: int = 0) -> bool:
    """Whether the server could not listen because another process does."""
    return _PORT_TAKEN in _read(log, since)


def errors(log: Path, since: int = 0) -> str:
    """Return the log's error lines, or its end if it has none."""
    lines = [
        line
        for line in _read(log, since).splitlines()
        if _ERROR_LINE.match(line) and not any(word in line for word in _HARMLESS)
    ]
    return "\n".join(lines[-_TAIL_LINES:]) or tail(log, since)


def tail(log: Path, since: int = 0) -> str:
    """Return the last lines of the log."""
    return "\n".join(_read(log, since).splitlines()[-_TAIL_LINES:])


def _read(log: Path, since: int) -> str:
    try:
        with log.open("rb") as stream:
            stream.seek(since)
            return stream.read().decode("utf-8", errors="replace")
    except FileNotFoundError:
        return ""
