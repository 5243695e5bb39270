"""The benchmark's load generator with responses that come in batches."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import numpy as np
import pytest

from benchmarks.closed_loop import Send, measure

CALLERS = 4


class Batching:
    """Requests are answered together, 20 ms after the first of them was sent."""

    image_count = 3

    def __init__(self) -> None:
        self.sent: list[int] = []
        self._waiting: list[asyncio.Future[bytes]] = []

    @contextlib.asynccontextmanager
    async def connect(self, callers: int) -> AsyncIterator[list[Send]]:
        """Connect callers."""

        async def send(number: int) -> bytes:
            self.sent.append(number)
            response: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
            self._waiting.append(response)
            if len(self._waiting) == 1:
                asyncio.get_running_loop().call_later(0.02, self._reply)
            return await response

        yield [send] * callers

    def _reply(self) -> None:
        batch, self._waiting = self._waiting, []
        for response in batch:
            response.set_result(b"")


def test_measure_obeys_littles_law_and_sends_the_images_in_turns() -> None:
    """Callers that never pause always have a request in flight: throughput times latency is their number."""
    sender = Batching()
    sample = measure(sender, callers=CALLERS, seconds=0.3, warm_s=0.05)
    assert sample.throughput * float(np.mean(sample.latencies_s)) == pytest.approx(CALLERS, rel=0.05)
    counts = np.bincount(sender.sent, minlength=sender.image_count)
    assert counts.min() >= counts.max() - CALLERS
