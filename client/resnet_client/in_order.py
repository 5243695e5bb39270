"""Process many images concurrently, with results in order and bounded memory.

At most ``max_in_flight`` images are in flight. A slow image does not delay the others: up to a bound, their results
wait for its result; at the bound, the source is not read further. An error of the source is raised after the results of
all images that it yielded before.
"""

from __future__ import annotations

import asyncio
import queue
from collections import deque
from collections.abc import AsyncIterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Generator, Iterable, Iterator

S = TypeVar("S")
T = TypeVar("T")

_MOST_AHEAD = 4  # times max_in_flight: images read before the first of them has its result


def in_order(sources: Iterable[S], perform: Callable[[S], T], *, max_in_flight: int) -> Generator[T, None, None]:
    """Apply ``perform`` in threads and yield its results in the order of the sources.

    Args:
        sources: read lazily.
        perform: called in a worker thread.
        max_in_flight: number of threads; four times as many results may wait for their turn.
    """
    window: deque[Future[T]] = deque()
    finished: queue.SimpleQueue[Future[T]] = queue.SimpleQueue()
    failures: list[Exception] = []
    in_flight = 0
    pool = ThreadPoolExecutor(max_in_flight, thread_name_prefix="resnet-client")
    try:
        for source in _read(sources, failures):
            future = pool.submit(perform, source)
            future.add_done_callback(finished.put)
            window.append(future)
            in_flight += 1
            while True:
                while window and window[0].done():
                    yield window.popleft().result()
                if in_flight < max_in_flight and len(window) < _MOST_AHEAD * max_in_flight:
                    break
                finished.get()
                in_flight -= 1
        while window:
            yield window.popleft().result()
        _raise(failures)
    finally:
        pool.shutdown(cancel_futures=True)


async def in_order_async(
    sources: Iterable[S] | AsyncIterable[S],
    perform: Callable[[S], Coroutine[Any, Any, T]],
    *,
    max_in_flight: int,
) -> AsyncGenerator[T, None]:
    """Like :func:`in_order`, with tasks of the running event loop; calls in flight at the end are cancelled."""
    window: deque[asyncio.Task[T]] = deque()
    finished: asyncio.Queue[asyncio.Task[T]] = asyncio.Queue()
    failures: list[Exception] = []
    in_flight = 0
    try:
        async for source in _read_async(sources, failures):
            task = asyncio.create_task(perform(source))
            task.add_done_callback(finished.put_nowait)
            window.append(task)
            in_flight += 1
            while True:
                while window and window[0].done():
                    yield await window.popleft()
                if in_flight < max_in_flight and len(window) < _MOST_AHEAD * max_in_flight:
                    break
                await finished.get()
                in_flight -= 1
        while window:
            yield await window.popleft()
        _raise(failures)
    finally:
        for task in window:
            task.cancel()
        await asyncio.gather(*window, return_exceptions=True)


def _read(sources: Iterable[S], failures: list[Exception]) -> Iterator[S]:
    """Read until the source ends or fails; collect the failure."""
    try:
        for source in sources:  # noqa: UP028  # `yield from` would close a generator that the caller may go on with
            yield source
    except Exception as exc:  # noqa: BLE001  # raised again after what was read before
        failures.append(exc)


def _raise(failures: list[Exception]) -> None:
    for failure in failures:
        raise failure


async def _read_async(sources: Iterable[S] | AsyncIterable[S], failures: list[Exception]) -> AsyncIterator[S]:
    """Like :func:`_read`, for iterables and async iterables."""
    try:
        if isinstance(sources, AsyncIterable):
            async for source in sources:
                yield source
        else:
            for source in sources:
                yield source
    except Exception as exc:  # noqa: BLE001  # raised again after what was read before
        failures.append(exc)
