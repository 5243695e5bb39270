"""The load generator: a closed loop of callers in one thread."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

import numpy as np

Send = Callable[[int], Awaitable[bytes]]

_WARM_S = 0.5
# A server that takes longer for a response is not measured.
_TIMEOUT_S = 60.0


class Sender(Protocol):
    """Sends images to a server."""

    @property
    def image_count(self) -> int:
        """Number of different images, which are sent in turns."""

    def connect(self, callers: int) -> AbstractAsyncContextManager[Sequence[Send]]:
        """Connect callers; ``await send(n)`` of one sends image ``n`` and returns the response's bytes."""


@dataclasses.dataclass(frozen=True)
class Sample:
    """The result of one measurement.

    Attributes:
        throughput: images answered per second.
        latencies_s: of each image, in seconds.
        cpu_s: CPU time of the load generator for an image, in seconds.
    """

    throughput: float
    latencies_s: Sequence[float]
    cpu_s: float

    def percentile_ms(self, percent: float) -> float:
        """Latency in milliseconds."""
        return 1e3 * float(np.percentile(self.latencies_s, percent))


def measure(
    sender: Sender,
    *,
    callers: int,
    seconds: float,
    warm_s: float = _WARM_S,
    end: Callable[[], None] = lambda: None,
) -> Sample:
    """Measure for some seconds.

    Each caller is timed over whole requests of its own, and all go on until the last has its time: a response comes
    with the others of its batch, so that counting responses in a window would be wrong by up to a batch.

    Args:
        sender: sends the images.
        callers: how many requests are in flight at any time.
        seconds: how long to measure, after ``warm_s`` seconds that do not count.
        warm_s: seconds of calling before.
        end: called when all callers are measured, while the others are still calling.

    Raises:
        OSError: a request failed, or took a minute; a benchmark has no failures.
    """

    async def run() -> Sample:
        async with asyncio.timeout(warm_s + seconds + _TIMEOUT_S):
            return await _Run(sender, callers, seconds, warm_s, end).result()

    return asyncio.run(run())


def responses(sender: Sender, first: int | None = None) -> list[bytes]:
    """Send each image once (or only the first ones), one after another, and return the responses.

    Raises:
        OSError: a request failed, or all of them took a minute.
    """

    async def call() -> list[bytes]:
        async with asyncio.timeout(_TIMEOUT_S), sender.connect(1) as (send,):
            return [await send(number) for number in range(first or sender.image_count)]

    return asyncio.run(call())


class _Run:
    def __init__(self, sender: Sender, callers: int, seconds: float, warm_s: float, end: Callable[[], None]) -> None:
        self._sender = sender
        self._callers = callers
        self._begin_s = time.perf_counter() + warm_s
        self._end_s = self._begin_s + seconds
        self._end = end
        self._rates: list[float] = []
        self._latencies: list[float] = []
        self._answered = 0

    async def result(self) -> Sample:
        began_cpu_s = time.process_time()
        async with self._sender.connect(self._callers) as sends:
            await asyncio.gather(*(self._call(number, send) for number, send in enumerate(sends)))
        cpu_s = time.process_time() - began_cpu_s
        return Sample(sum(self._rates), self._latencies, cpu_s / self._answered)

    async def _call(self, turn: int, send: Send) -> None:
        """One caller: warm up, measure, and continue until all callers are done."""
        finished: list[float] = []
        is_measured = False
        while len(self._rates) < self._callers:
            sent = time.perf_counter()
            await send(turn % self._sender.image_count)
            answered = time.perf_counter()
            self._answered += 1
            turn += self._callers
            if is_measured or answered < self._begin_s:
                continue
            if finished:  # the request in flight at the start is not measured
                self._latencies.append(answered - sent)
            finished.append(answered)
            is_measured = len(finished) > 1 and answered > self._end_s
            if is_measured:
                self._rates.append((len(finished) - 1) / (finished[-1] - finished[0]))
                if len(self._rates) == self._callers:
                    self._end()
