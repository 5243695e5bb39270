"""What is recorded of each request, kept as columns; one run is one such table, never buckets."""

from __future__ import annotations

import base64
import enum
import math
import zlib
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy.typing as npt

Samples: TypeAlias = "npt.NDArray[np.void]"
Row: TypeAlias = tuple[float, float, float, int, int, int]

SAMPLE = np.dtype(
    [
        ("intended_s", "<f8"),  # when it was to be sent, seconds since the run began
        ("sent_s", "<f8"),  # when it was sent; NaN if it never was
        ("done_s", "<f8"),  # when the answer, or the failure, was there; NaN if it was never sent
        ("fate", "u1"),
        ("answered", "<u2"),  # photos answered
        ("failed", "<u2"),  # photos not answered
    ]
)


class Fate(enum.IntEnum):
    """How a request ended."""

    OK = 0
    OVERLOADED = 1
    DEADLINE = 2
    UNAVAILABLE = 3
    REFUSED = 4
    SERVER_FAILED = 5
    BAD_PHOTO = 6
    CAPPED = 7
    UNSENT = 8

    @property
    def meaning(self) -> str:
        """In words, for reports."""
        return _MEANINGS[self]


_MEANINGS = {
    Fate.OK: "answered",
    Fate.OVERLOADED: "refused: the server is overloaded",
    Fate.DEADLINE: "no answer in time",
    Fate.UNAVAILABLE: "no connection",
    Fate.REFUSED: "refused: bad request",
    Fate.SERVER_FAILED: "the server failed",
    Fate.BAD_PHOTO: "refused: no photo",
    Fate.CAPPED: "not sent: too many in flight",
    Fate.UNSENT: "not sent: the generator was late",
}

_MOST_ROWS = 100_000_000

# The server may or may not have counted these: nobody saw an answer.
UNANSWERED = (Fate.DEADLINE, Fate.UNAVAILABLE)
NEVER_SENT = (Fate.CAPPED, Fate.UNSENT)


def table(rows: Iterable[Row]) -> Samples:
    """Rows of (intended_s, sent_s, done_s, fate, answered, failed) as a table."""
    return np.array(list(rows), dtype=SAMPLE)


def merged(tables: Iterable[Samples]) -> Samples:
    """All rows of all tables, ordered by the time they were to be sent."""
    rows = np.concatenate([np.empty(0, SAMPLE), *tables])
    ordered: Samples = rows[np.argsort(rows["intended_s"], kind="stable")]
    return ordered


def response_s(samples: Samples) -> npt.NDArray[np.float64]:
    """Seconds from the intended sending to the answer; infinite where there was no good answer.

    Returns:
        float64, shape (requests,), above 0.
    """
    return _duration_s(samples, "intended_s")


def service_s(samples: Samples) -> npt.NDArray[np.float64]:
    """Seconds from the actual sending to the answer; infinite where there was no good answer.

    Returns:
        float64, shape (requests,), above 0.
    """
    return _duration_s(samples, "sent_s")


def lateness_s(samples: Samples) -> npt.NDArray[np.float64]:
    """Seconds between the intended and the actual sending, of those that were sent.

    Returns:
        float64, shape (sent requests,), 0 or above.
    """
    late: npt.NDArray[np.float64] = samples["sent_s"] - samples["intended_s"]
    return late[~np.isnan(late)]


def encode(samples: Samples) -> dict[str, Any]:
    """The table for JSON: each column's bytes, compressed, in base64."""
    return {
        "encoding": "column bytes, zlib, base64",
        "rows": len(samples),
        "dtype": {name: SAMPLE[name].str for name in _names()},
        "columns": {
            name: base64.b64encode(zlib.compress(np.ascontiguousarray(samples[name]).tobytes())).decode()
            for name in _names()
        },
    }


def decode(document: dict[str, Any], *, longest_s: float = math.inf) -> Samples:
    """Read what :func:`encode` wrote.

    Args:
        document: the table.
        longest_s: latest time that makes sense, in seconds since the run began.

    Raises:
        ValueError: it is something else, or holds times that cannot be.
        KeyError, TypeError: likewise.
    """
    rows = document["rows"]
    if not isinstance(rows, int) or not 0 <= rows <= _MOST_ROWS:
        raise ValueError(f"{rows!r} is no number of requests")
    columns = {name: _column(document["columns"][name], SAMPLE[name], rows) for name in _names()}
    samples = np.empty(rows, SAMPLE)
    for name, column in columns.items():
        samples[name] = column
    _refuse_impossible(samples, longest_s)
    return samples


def _column(text: str, kind: np.dtype[Any], rows: int) -> npt.NDArray[Any]:
    size = rows * kind.itemsize
    try:
        # Not more than there may be: little text can stand for much.
        content = zlib.decompressobj().decompress(base64.b64decode(text), size + 1)
    except zlib.error as exc:
        raise ValueError(f"a column is damaged: {exc}") from exc
    if len(content) != size:
        raise ValueError(f"a column has not {rows} rows")
    return np.frombuffer(content, kind)


def _refuse_impossible(samples: Samples, longest_s: float) -> None:
    intended, sent, done = (samples[name] for name in ("intended_s", "sent_s", "done_s"))
    unsent = np.isin(samples["fate"], NEVER_SENT) & np.isnan(sent) & np.isnan(done)
    in_order = (intended <= done) & (sent <= done) & (done <= longest_s) & (sent >= 0)
    if not np.all((samples["fate"] <= max(Fate)) & (intended >= 0) & (intended <= longest_s) & (in_order | unsent)):
        raise ValueError("a request has times or a fate that cannot be")
    if np.any(np.diff(intended) < 0):
        raise ValueError("its requests are not in order")


def _names() -> tuple[str, ...]:
    return tuple(SAMPLE.names or ())


def _duration_s(samples: Samples, start: str) -> npt.NDArray[np.float64]:
    durations: npt.NDArray[np.float64] = samples["done_s"] - samples[start]
    return np.where(samples["fate"] == Fate.OK, durations, np.inf)
