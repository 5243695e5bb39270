"""Performs flows with asyncio: the only place where :class:`AsyncClient` waits for anything."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, TypeVar, cast

from resnet_client import _forks
from resnet_client._exceptions import ClosedError, ConfigurationError, ResnetClientError, ServerError
from resnet_client._flows import one_of_many
from resnet_client._many import in_order_async
from resnet_client._progress import bar
from resnet_client._steps import Part, Pause, Work
from resnet_client._transports import connect_async

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable

    from resnet_client._config import ClientConfig
    from resnet_client._delivery import Delivery
    from resnet_client._endpoint import Endpoint
    from resnet_client._images import ImageSource
    from resnet_client._results import Outcome
    from resnet_client._steps import Flow, Send, Step
    from resnet_client._transports import AsyncTransport

T = TypeVar("T")


class AsyncRunner:
    """One transport for each server, made with the first request to it; all belong to one event loop.

    Args:
        config: how to connect.
        delivery: its care for several servers runs in a task of its own, while there are calls; its farewell is
            performed when the client is closed.
    """

    def __init__(self, config: ClientConfig, delivery: Delivery) -> None:
        self._config = config
        self._delivery = delivery
        self._carer: asyncio.Task[None] | None = None
        self._transports: dict[Endpoint, AsyncTransport] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self.is_closed = False
        _forks.watch(self)

    async def run(self, flow: Flow[T]) -> T:
        """Perform a flow's steps until it returns."""
        self._check_loop()
        if self._delivery.needs_care and (self._carer is None or self._carer.done()) and not self.is_closed:
            self._carer = asyncio.create_task(self._look_after())
        return await self._drive(flow)

    async def run_many(
        self,
        sources: Iterable[ImageSource] | AsyncIterable[ImageSource],
        flow_of: Callable[[ImageSource], Flow[T]],
        *,
        max_in_flight: int,
        progress: bool,
    ) -> AsyncIterator[Outcome[T]]:
        """Perform one flow for each source, several at a time, outcomes in order."""

        async def perform(source: ImageSource) -> Outcome[T]:
            return await self.run(one_of_many(source, flow_of(source)))

        with bar(sources, shown=progress) as advance:
            async with contextlib.aclosing(in_order_async(sources, perform, max_in_flight=max_in_flight)) as outcomes:
                async for outcome in outcomes:
                    advance(outcome)
                    yield outcome

    async def close(self) -> None:
        """Close the transports."""
        if not self.is_closed and self._loop is asyncio.get_running_loop():
            with contextlib.suppress(ResnetClientError):
                await self._drive(self._delivery.farewell())
        self.is_closed = True
        carer, self._carer = self._carer, None
        if carer is not None and self._loop is asyncio.get_running_loop():
            carer.cancel()
            await asyncio.gather(carer, return_exceptions=True)
        transports, self._transports = self._transports, {}
        for transport in transports.values():
            await transport.close()

    def after_fork(self) -> None:
        """Begin anew in a child process, with any event loop; the parent's watches the parent's connections."""
        _forks.leave((self._loop, self._carer, self._transports))
        self._loop, self._carer, self._transports = None, None, {}
        self._delivery.after_fork()

    async def _drive(self, flow: Flow[T]) -> T:
        try:
            step = next(flow)
            while True:
                try:
                    value = await self._perform(step)
                except ResnetClientError as exc:
                    step = flow.throw(exc)
                else:
                    step = flow.send(value)
        except StopIteration as stop:
            return cast("T", stop.value)
        finally:
            flow.close()  # also when this call is cancelled or interrupted

    async def _perform(self, step: Step) -> Any:
        if isinstance(step, Work):
            return await asyncio.to_thread(step.run)
        if isinstance(step, Pause):
            return await asyncio.sleep(step.duration_s)
        if isinstance(step, Part):
            return await self._part(step.endpoint)
        return await self._send(step)

    async def _send(self, step: Send) -> Any:
        try:
            return await self._connected(step.endpoint).send(step.request, step.deadline.remaining_s())
        except ServerError as exc:
            if self.is_closed:
                raise ClosedError("the client was closed while it waited for an answer") from exc
            raise
        except asyncio.CancelledError as exc:
            # gRPC's way to end calls of a channel that is closed; who cancels a task himself gets what he wants.
            task = asyncio.current_task()
            if self.is_closed and task is not None and not task.cancelling():
                raise ClosedError("the client was closed while it waited for an answer") from exc
            raise

    def _check_loop(self) -> None:
        loop = asyncio.get_running_loop()
        self._loop = self._loop or loop
        if self._loop is not loop:
            raise ConfigurationError(
                "this AsyncClient was first used in another event loop; make a client in each loop, that is, inside "
                "each asyncio.run"
            )

    def _connected(self, endpoint: Endpoint) -> AsyncTransport:
        if self.is_closed:
            raise ClosedError("the client was closed while it was used")
        if (transport := self._transports.get(endpoint)) is None:
            transport = self._transports[endpoint] = connect_async(self._config, endpoint)
        return transport

    async def _part(self, endpoint: Endpoint) -> None:
        if (transport := self._transports.pop(endpoint, None)) is not None:
            await transport.close()

    async def _look_after(self) -> None:
        with contextlib.suppress(ClosedError):
            await self._drive(self._delivery.care())
