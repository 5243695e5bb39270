"""Five times what a server can bear, for five minutes: what is accepted is in time, the rest is refused at once."""

from __future__ import annotations

import asyncio
import gc
import io
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import processes
import pytest
from PIL import Image
from resnet_client import AsyncClient, OverloadedError, ResnetClientError
from resnet_serve import TritonServer

from .conftest import Call

pytestmark = [pytest.mark.reliability, pytest.mark.timeout(900)]

LONGEST_WAIT_S = 10.0  # resnet-build --max-wait-ms
CALLERS = 12  # in the closed loop; few enough that no request is refused
LOAD_S = 300.0
RETRY_S = 20.0
MINUTE_S = 60.0
REFUSED_S = 0.1
BACK_S = 5.0
GROWTH = 0.05


@pytest.fixture
def image(images: dict[str, Path]) -> bytes:
    """An image that is quick to send and to decode."""
    buffer = io.BytesIO()
    Image.open(images["cat"]).convert("RGB").save(buffer, "JPEG")
    return buffer.getvalue()


async def classify(client: AsyncClient, image: bytes, due_s: float) -> Call:
    """One call, timed from when it was due."""
    try:
        found = await client.classify(image, top_k=1)
    except ResnetClientError as exc:
        duration_s = time.monotonic() - due_s
        exc.__cause__ = exc.__context__ = None  # tens of thousands of tracebacks hold very many frames
        return Call(due_s, duration_s, error=exc.with_traceback(None))
    return Call(due_s, time.monotonic() - due_s, index=found.top.index)


async def closed_loop(client: AsyncClient, image: bytes, callers: int, duration_s: float) -> list[Call]:
    """Run a closed loop with a number of clients, each with one call in flight."""
    calls, end_s = [], time.monotonic() + duration_s

    async def call_again_and_again() -> None:
        while (now_s := time.monotonic()) < end_s:
            calls.append(await classify(client, image, now_s))

    await asyncio.gather(*(call_again_and_again() for _ in range(callers)))
    assert not [call.error for call in calls if call.error]
    return calls


async def open_loop(client: AsyncClient, image: bytes, rate: float, duration_s: float) -> list[Call]:
    """Run an open loop with a number of calls per second."""
    gc.disable()  # it would look at all calls so far, and halt the callers for up to seconds
    try:
        started_s = time.monotonic()
        tasks = []
        for number in range(int(rate * duration_s)):
            due_s = started_s + number / rate
            if (early_s := due_s - time.monotonic()) > 0:
                await asyncio.sleep(early_s)
            tasks.append(asyncio.create_task(classify(client, image, due_s)))
        return await asyncio.gather(*tasks)
    finally:
        gc.enable()


async def watch(server: int, samples: list[tuple[float, float]]) -> None:
    """Note the server's memory every second."""
    while True:
        samples.append((time.monotonic(), processes.resident_mib(server)))
        await asyncio.sleep(1)


async def sent(client: AsyncClient) -> float:
    """Requests that have reached the server; Triton 2.51 counts a failed one of an ensemble twice."""
    last = -1.0
    while True:
        (entry,) = await client.statistics(model="resnet50")
        count = entry.success_count + entry.failure_count / 2
        if count == last:  # its counts lag its answers
            return count
        last = count
        await asyncio.sleep(0.5)


def percentiles_ms(calls: list[Call]) -> str:
    """Three percentiles, for a note."""
    return " / ".join(f"{np.percentile([c.duration_s for c in calls], q) * 1000:.0f}" for q in (50, 95, 99))


async def test_overload_is_refused_at_once(
    start_server: Callable[..., TritonServer], image: bytes, note: Callable[[str], None]
) -> None:
    """At five times the capacity, memory is constant and accepted calls are in time; afterwards, latency is normal."""
    server = start_server()
    memory: list[tuple[float, float]] = []
    async with AsyncClient(server.grpc_url, timeout_s=60) as client:
        alone = await closed_loop(client, image, 1, 5)
        capacity = len(await closed_loop(client, image, CALLERS, 10)) / 10
        watching = asyncio.create_task(watch(processes.of_server(server), memory))
        began_s = time.monotonic()
        calls = await open_loop(client, image, 5 * capacity, LOAD_S)
        ended_s = max(call.sent_s for call in calls)
        back_s = await until_normal(client, image, 1.5 * max(call.duration_s for call in alone)) - ended_s
        watching.cancel()
    accepted = [call for call in calls if call.error is None]
    refused = [call for call in calls if call.error is not None]
    early, late = (
        statistics.median(m for at_s, m in memory if begin_s <= at_s < begin_s + MINUTE_S)
        for begin_s in (began_s + MINUTE_S, ended_s - MINUTE_S)
    )
    note(
        f"{len(calls)} calls at 5 × {capacity:.1f}/s in {LOAD_S:.0f} s: {len(accepted)} accepted in "
        f"{percentiles_ms(accepted)} ms, {len(refused)} refused in {percentiles_ms(refused)} ms (p50 / p95 / p99)"
    )
    note(f"memory {early:.0f} MiB in the second minute, {late:.0f} MiB in the last; normal again after {back_s:.1f} s")
    assert {type(call.error) for call in refused} == {OverloadedError}
    assert "is overloaded" in str(refused[0].error)
    assert "retry later" in str(refused[0].error)
    assert np.percentile([call.duration_s for call in accepted], 99) < LONGEST_WAIT_S
    assert np.percentile([call.duration_s for call in refused], 99) < REFUSED_S
    assert late < early * (1 + GROWTH)
    assert back_s < BACK_S


async def until_normal(client: AsyncClient, image: bytes, normal_s: float) -> float:
    """When the first of three calls in a row began that took no longer than normal."""
    row: list[float] = []
    while len(row) < 3:
        call = await classify(client, image, time.monotonic())
        row = [*row, call.sent_s] if call.error is None and call.duration_s <= normal_s else []
    return row[0]


async def test_retries_do_not_feed_the_overload(
    start_server: Callable[..., TritonServer], image: bytes, note: Callable[[str], None]
) -> None:
    """A client that repeats what is refused sends at most a fifth more than it was asked for, by the server's count."""
    server = start_server()
    async with AsyncClient(server.grpc_url, timeout_s=60, retry_overload=True) as client:
        before = await sent(client)
        first = await closed_loop(client, image, CALLERS, 5)
        calls = await open_loop(client, image, len(first), RETRY_S)  # a second, so five times the capacity
        sends = await sent(client) - before
    asked = len(first) + len(calls)
    note(f"{asked} calls with retry_overload at five times the capacity: {sends:.0f} sent, {sends / asked:.3f} of them")
    assert asked < sends <= 1.2 * asked + 5
