"""The recorded data: every request, as one table per run, and the generator's CPU time of each second."""

from __future__ import annotations

import base64
import dataclasses
import enum
import zlib
from collections.abc import Iterable
from typing import Any, Self, TypeAlias

import numpy as np
import numpy.typing as npt

Samples: TypeAlias = npt.NDArray[np.void]
Row: TypeAlias = tuple[float, float, float, int]

SAMPLE = np.dtype(
    [
        ("intended_s", "<f8"),  # when it was due to be sent, seconds since the run began
        ("sent_s", "<f8"),  # when it was sent; NaN if it was not
        ("done_s", "<f8"),  # when it succeeded or failed; NaN if it was not sent
        ("status", "u1"),
    ]
)
_STARTS = {"response": "intended_s", "service": "sent_s"}


class Status(enum.IntEnum):
    """How a request ended: the number in the table, and ``description``, a text for reports."""

    description: str

    def __new__(cls, number: int, description: str = "") -> Self:
        """Make a status; Python does so only for those below."""
        status = int.__new__(cls, number)
        status._value_, status.description = number, description
        return status

    OK = 0, "answered"
    OVERLOADED = 1, "refused: the server is overloaded"
    DEADLINE = 2, "timed out"
    UNAVAILABLE = 3, "no connection"
    REFUSED = 4, "refused: invalid request"
    SERVER_FAILED = 5, "the server failed"
    INVALID_IMAGE = 6, "refused: invalid image"
    CAPPED = 7, "not sent: too many in flight"
    UNSENT = 8, "not sent: the generator was late"


# No response arrived, so the server may or may not have counted these.
UNANSWERED = (Status.DEADLINE, Status.UNAVAILABLE)
NEVER_SENT = (Status.CAPPED, Status.UNSENT)


@dataclasses.dataclass(frozen=True)
class GeneratorMetrics:
    """What one generator process measured about itself in one second.

    Attributes:
        worker: its number, from 0.
        time_s: seconds since the run began.
        thread_cpu: CPU time of the thread that sends, as a share of the past second, 0 to 1.
    """

    worker: int
    time_s: float
    thread_cpu: float


@dataclasses.dataclass(frozen=True)
class Chunk:
    """What one process reports about once a second.

    Attributes:
        samples: requests that ended since the last chunk.
        metrics: the generator's since the last chunk.
    """

    samples: Samples
    metrics: list[GeneratorMetrics]

    def to_message(self) -> dict[str, Any]:
        """The chunk as a message to the master."""
        return {"samples": self.samples.tobytes(), "metrics": [dataclasses.astuple(each) for each in self.metrics]}

    @classmethod
    def from_message(cls, message: dict[str, Any]) -> Chunk:
        """Read what :meth:`to_message` wrote."""
        metrics = [GeneratorMetrics(*each) for each in message["metrics"]]
        return cls(np.frombuffer(message["samples"], SAMPLE), metrics)


def table(rows: Iterable[Row]) -> Samples:
    """Rows of (intended_s, sent_s, done_s, status) as a table."""
    return np.array(list(rows), dtype=SAMPLE)


def merged(tables: Iterable[Samples]) -> Samples:
    """All rows of all tables, ordered by the time they were due."""
    rows = np.concatenate([np.empty(0, SAMPLE), *tables])
    ordered: Samples = rows[np.argsort(rows["intended_s"], kind="stable")]
    return ordered


def only_answered(samples: Samples) -> Samples:
    """The requests that were answered, those after the end of the run included."""
    found: Samples = samples[samples["status"] == Status.OK]
    return found


def durations_s(samples: Samples, of: str = "response") -> npt.NDArray[np.float64]:
    """Seconds until the response; infinite where the request failed.

    Args:
        samples: the requests.
        of: ``"response"`` counts from the intended sending, ``"service"`` from the actual.

    Returns:
        float64, shape (requests,), above 0.
    """
    durations: npt.NDArray[np.float64] = samples["done_s"] - samples[_STARTS[of]]
    return np.where(samples["status"] == Status.OK, durations, np.inf)


def lateness_s(samples: Samples) -> npt.NDArray[np.float64]:
    """Seconds between the intended and the actual sending, of the requests that were sent.

    Returns:
        float64, shape (sent requests,), 0 or above.
    """
    late: npt.NDArray[np.float64] = samples["sent_s"] - samples["intended_s"]
    return late[~np.isnan(late)]


def in_flight(samples: Samples, start_s: float, end_s: float) -> float:
    """Requests in flight, averaged over a period, in seconds since the run began."""
    sent = samples[~np.isnan(samples["sent_s"])]
    spent_s = np.clip(sent["done_s"], start_s, end_s) - np.clip(sent["sent_s"], start_s, end_s)
    return float(spent_s.sum()) / (end_s - start_s)


def encode(samples: Samples) -> dict[str, Any]:
    """The table for JSON: its bytes, row after row, compressed, in base64."""
    return {
        "rows": len(samples),
        "dtype": [list(column) for column in SAMPLE.descr],
        "zlib_base64": base64.b64encode(zlib.compress(samples.tobytes())).decode(),
    }


def decode(document: Any) -> Samples:
    """Read what :func:`encode` wrote.

    Raises:
        ValueError: it is damaged.
    """
    try:
        return np.frombuffer(zlib.decompress(base64.b64decode(document["zlib_base64"])), SAMPLE, document["rows"])
    except (LookupError, TypeError, ValueError, OverflowError, zlib.error) as exc:
        raise ValueError(f"the table of samples is damaged: {exc}") from exc
