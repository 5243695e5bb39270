"""The load generator: a closed loop of callers in one thread."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

import numpy as np

_POLL_S = 0.1

Send = Callable[[int], Awaitable[bytes]]


class Sender(Protocol):
    """Sends images to a server."""

    @property
    def image_count(self) -> int:
        """Number of different images, which are sent in turns."""

    def connect(self) -> AbstractAsyncContextManager[Send]:
        """Connect a caller; ``await send(n)`` sends image ``n`` and returns the response's bytes."""


@dataclasses.dataclass(frozen=True)
class Sample:
    """The result of one measurement.

    Attributes:
        callers: how many requests were in flight at any time.
        throughput: images answered per second.
        latencies_s: of each image, in seconds.
        generator_ms: CPU time of the generator per image, in core-milliseconds.
        window_s: how long was measured; the same time in which the servers' CPU time is read.
    """

    callers: int
    throughput: float
    latencies_s: Sequence[float]
    generator_ms: float
    window_s: float

    def percentile_ms(self, percent: float) -> float:
        """Latency in milliseconds."""
        return 1e3 * float(np.percentile(self.latencies_s, percent))


def measure(
    sender: Sender,
    *,
    callers: int,
    seconds: float,
    warm_s: float = 0.5,
    start: Callable[[], None] = lambda: None,
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
        start: called when measuring begins.
        end: called when it ends, while the callers are still calling.

    Raises:
        OSError: a request failed; a benchmark has no failures.
    """
    return asyncio.run(_Run(sender, callers, seconds, warm_s).result(start, end))


def responses(sender: Sender, first: int | None = None) -> list[bytes]:
    """Send each image once (or only the first ones), one after another, and return the responses."""

    async def call() -> list[bytes]:
        async with sender.connect() as send:
            return [await send(number) for number in range(first or sender.image_count)]

    return asyncio.run(call())


def wait_until_answered(sender: Sender, timeout_s: float = 60.0) -> None:
    """Wait until a server answers a request: while it loads, it may already listen.

    Raises:
        OSError: it did not in time.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            responses(sender, first=1)
        except (OSError, EOFError):
            if time.monotonic() > deadline:
                raise
            time.sleep(_POLL_S)
        else:
            return


class _Run:
    def __init__(self, sender: Sender, callers: int, seconds: float, warm_s: float) -> None:
        self._sender = sender
        self._callers = callers
        self._seconds = seconds
        self._warm_s = warm_s
        self._deadline = 0.0
        self._rates: list[float] = []
        self._latencies: list[float] = []
        self._begin = asyncio.Event()
        self._measured = asyncio.Event()
        self._unmeasured = callers

    async def result(self, start: Callable[[], None], end: Callable[[], None]) -> Sample:
        tasks = [asyncio.create_task(self._call(number)) for number in range(self._callers)]
        await asyncio.wait(tasks, timeout=self._warm_s, return_when=asyncio.FIRST_EXCEPTION)
        start()
        began, cpu = time.perf_counter(), time.process_time()
        self._deadline = began + self._seconds
        self._begin.set()
        measured = asyncio.create_task(self._measured.wait())
        await asyncio.wait([measured, *tasks], return_when=asyncio.FIRST_COMPLETED)
        measured.cancel()
        window, spent = time.perf_counter() - began, time.process_time() - cpu
        end()
        self._measured.set()
        await asyncio.gather(*tasks)
        throughput = sum(self._rates)
        return Sample(self._callers, throughput, self._latencies, 1e3 * spent / window / throughput, window)

    async def _call(self, number: int) -> None:
        """One caller: warm up, measure, and continue until all callers are done."""
        async with self._sender.connect() as send:
            turn = number
            first = last = 0.0
            count = 0
            while not self._measured.is_set():
                sent = time.perf_counter()
                await send(turn % self._sender.image_count)
                answered = time.perf_counter()
                turn += self._callers
                if not self._begin.is_set() or last > self._deadline:
                    continue
                if not first:
                    first = answered  # the request in flight at the start is not measured
                    continue
                last, count = answered, count + 1
                self._latencies.append(answered - sent)
                if last > self._deadline:
                    self._rates.append(count / (last - first))
                    self._unmeasured -= 1
                    if not self._unmeasured:
                        self._measured.set()
