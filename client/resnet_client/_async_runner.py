"""Performs flows with asyncio: the only place where :class:`AsyncClient` waits for anything."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, TypeVar, cast

from resnet_client._exceptions import ClosedError, ConfigurationError, ResnetClientError, ServerError
from resnet_client._flows import Pause, Work, one_of_many
from resnet_client._many import in_order_async
from resnet_client._progress import bar
from resnet_client._transports import connect_async

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable

    from resnet_client._config import ClientConfig
    from resnet_client._flows import Flow, Send, Step
    from resnet_client._images import ImageSource
    from resnet_client._results import Outcome
    from resnet_client._transports import AsyncTransport

T = TypeVar("T")


class AsyncRunner:
    """One transport, made with the first request; all belongs to the event loop of the first call."""

    def __init__(self, config: ClientConfig) -> None:
        self._config = config
        self._transport: AsyncTransport | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self.is_closed = False

    async def run(self, flow: Flow[T]) -> T:
        """Perform a flow's steps until it returns."""
        self._check_loop()
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
            async with aclosing(in_order_async(sources, perform, max_in_flight=max_in_flight)) as outcomes:
                async for outcome in outcomes:
                    advance(outcome)
                    yield outcome

    async def close(self) -> None:
        """Close the transport."""
        self.is_closed = True
        transport, self._transport = self._transport, None
        if transport is not None:
            await transport.close()

    async def _perform(self, step: Step) -> Any:
        if isinstance(step, Work):
            return await asyncio.to_thread(step.run)
        if isinstance(step, Pause):
            return await asyncio.sleep(step.duration_s)
        async for attempt in step.policy.attempts(step.deadline):
            with attempt:
                return await self._send(step)
        raise AssertionError("the last attempt returns or raises")

    async def _send(self, step: Send) -> Any:
        try:
            return await self._connected().send(step.request, step.deadline.remaining_s())
        except ServerError as exc:
            if self.is_closed:
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

    def _connected(self) -> AsyncTransport:
        if self.is_closed:
            raise ClosedError("the client was closed while it was used")
        if self._transport is None:
            self._transport = connect_async(self._config)
        return self._transport
