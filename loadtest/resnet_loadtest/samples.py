"""The recorded data: every request, as one table per run, and the generator's metrics of each second."""

from __future__ import annotations

import base64
import dataclasses
import enum
import zlib
from collections.abc import Iterable
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Samples: TypeAlias = npt.NDArray[np.void]
Row: TypeAlias = tuple[float, float, float, int, int, int]

SAMPLE = np.dtype(
    [
        ("intended_s", "<f8"),  # when it was due to be sent, seconds since the run began
        ("sent_s", "<f8"),  # when it was sent; NaN if it was not
        ("done_s", "<f8"),  # when it succeeded or failed; NaN if it was not sent
        ("status", "u1"),
        ("answered", "<u2"),  # images answered
        ("failed", "<u2"),  # images not answered
    ]
)

_MAX_ROWS = 100_000_000


class Status(enum.IntEnum):
    """How a request ended."""

    OK = 0
    OVERLOADED = 1
    DEADLINE = 2
    UNAVAILABLE = 3
    REFUSED = 4
    SERVER_FAILED = 5
    INVALID_IMAGE = 6
    CAPPED = 7
    UNSENT = 8

    @property
    def description(self) -> str:
        """Text for reports."""
        return _DESCRIPTIONS[self]


_DESCRIPTIONS = {
    Status.OK: "answered",
    Status.OVERLOADED: "refused: the server is overloaded",
    Status.DEADLINE: "timed out",
    Status.UNAVAILABLE: "no connection",
    Status.REFUSED: "refused: invalid request",
    Status.SERVER_FAILED: "the server failed",
    Status.INVALID_IMAGE: "refused: invalid image",
    Status.CAPPED: "not sent: too many in flight",
    Status.UNSENT: "not sent: the generator was late",
}

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
        process_cpu: CPU time of the whole process, gRPC's threads included, as a share; may exceed 1.
        rss_bytes: memory in use.
        in_flight: requests in flight, averaged over the past second.
    """

    worker: int
    time_s: float
    thread_cpu: float
    process_cpu: float
    rss_bytes: int
    in_flight: float


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
    """Rows of (intended_s, sent_s, done_s, status, answered, failed) as a table."""
    return np.array(list(rows), dtype=SAMPLE)


def merged(tables: Iterable[Samples]) -> Samples:
    """All rows of all tables, ordered by the time they were due."""
    rows = np.concatenate([np.empty(0, SAMPLE), *tables])
    ordered: Samples = rows[np.argsort(rows["intended_s"], kind="stable")]
    return ordered


def images_answered(samples: Samples) -> int:
    """How many images the clients received a response for, those after the end of the run included."""
    return int(samples["answered"].sum())


def images_unanswered(samples: Samples) -> int:
    """How many images were sent and never answered; the server may or may not have counted them."""
    return int(samples["failed"][np.isin(samples["status"], UNANSWERED)].sum())


def response_s(samples: Samples) -> npt.NDArray[np.float64]:
    """Seconds from the intended sending to the response; infinite where the request failed.

    Returns:
        float64, shape (requests,), above 0.
    """
    return _duration_s(samples, "intended_s")


def service_s(samples: Samples) -> npt.NDArray[np.float64]:
    """Seconds from the actual sending to the response; infinite where the request failed.

    Returns:
        float64, shape (requests,), above 0.
    """
    return _duration_s(samples, "sent_s")


def lateness_s(samples: Samples) -> npt.NDArray[np.float64]:
    """Seconds between the intended and the actual sending, of the requests that were sent.

    Returns:
        float64, shape (sent requests,), 0 or above.
    """
    late: npt.NDArray[np.float64] = samples["sent_s"] - samples["intended_s"]
    return late[~np.isnan(late)]


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
        rows = min(int(document["rows"]), _MAX_ROWS)
        size = rows * SAMPLE.itemsize
        # One byte more than expected at most: little text can expand to gigabytes.
        content = zlib.decompressobj().decompress(base64.b64decode(document["zlib_base64"]), size + 1)
    except (LookupError, TypeError, ValueError, OverflowError, zlib.error) as exc:
        raise ValueError(f"the table of samples is damaged: {exc}") from exc
    if len(content) != size:
        raise ValueError(f"the table of samples does not have {rows} rows")
    return np.frombuffer(content, SAMPLE)


def are_plausible(samples: Samples, longest_s: float) -> bool:
    """Whether every status is known, every time possible and up to ``longest_s`` seconds, and the order kept."""
    intended, sent, done = (samples[name] for name in ("intended_s", "sent_s", "done_s"))
    unsent = np.isin(samples["status"], NEVER_SENT) & np.isnan(sent) & np.isnan(done)
    in_order = (intended <= done) & (sent <= done) & (done <= longest_s) & (sent >= 0)
    known = (samples["status"] <= max(Status)) & (intended >= 0) & (intended <= longest_s)
    return bool(np.all(known & (in_order | unsent)) and np.all(np.diff(intended) >= 0))


def _duration_s(samples: Samples, start: str) -> npt.NDArray[np.float64]:
    durations: npt.NDArray[np.float64] = samples["done_s"] - samples[start]
    return np.where(samples["status"] == Status.OK, durations, np.inf)
