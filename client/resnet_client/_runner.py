"""Performs flows blocking: the only place where :class:`Client` waits for anything."""

from __future__ import annotations

import threading
import time
from contextlib import closing
from typing import TYPE_CHECKING, Any, TypeVar, cast

from resnet_client._exceptions import ClosedError, ResnetClientError, ServerError
from resnet_client._flows import Pause, Work, one_of_many
from resnet_client._many import in_order
from resnet_client._progress import bar
from resnet_client._transports import connect

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from resnet_client._config import ClientConfig
    from resnet_client._flows import Flow, Send, Step
    from resnet_client._images import ImageSource
    from resnet_client._results import Outcome
    from resnet_client._transports import Transport

T = TypeVar("T")


class Runner:
    """One transport, made with the first request, shared by all threads."""

    def __init__(self, config: ClientConfig) -> None:
        self._config = config
        self._lock = threading.Lock()
        self._transport: Transport | None = None
        self.is_closed = False

    def run(self, flow: Flow[T]) -> T:
        """Perform a flow's steps until it returns."""
        try:
            step = next(flow)
            while True:
                try:
                    value = self._perform(step)
                except ResnetClientError as exc:
                    step = flow.throw(exc)
                else:
                    step = flow.send(value)
        except StopIteration as stop:
            return cast("T", stop.value)

    def run_many(
        self,
        sources: Iterable[ImageSource],
        flow_of: Callable[[ImageSource], Flow[T]],
        *,
        max_in_flight: int,
        progress: bool,
    ) -> Iterator[Outcome[T]]:
        """Perform one flow for each source, several at a time, outcomes in order."""

        def perform(source: ImageSource) -> Outcome[T]:
            return self.run(one_of_many(source, flow_of(source)))

        with bar(sources, shown=progress) as advance:
            outcomes = in_order(sources, perform, max_in_flight=max_in_flight, leave_thread=self._leave_thread)
            with closing(outcomes):
                for outcome in outcomes:
                    advance(outcome)
                    yield outcome

    def close(self) -> None:
        """Close the transport."""
        with self._lock:
            self.is_closed = True
            transport, self._transport = self._transport, None
        if transport is not None:
            transport.close()

    def _perform(self, step: Step) -> Any:
        if isinstance(step, Work):
            return step.run()
        if isinstance(step, Pause):
            return time.sleep(step.duration_s)
        for attempt in step.policy.attempts(step.deadline):
            with attempt:
                return self._send(step)
        raise AssertionError("the last attempt returns or raises")

    def _send(self, step: Send) -> Any:
        try:
            return self._connected().send(step.request, step.deadline.remaining_s())
        except ServerError as exc:
            if self.is_closed:
                raise ClosedError("the client was closed while it waited for an answer") from exc
            raise

    def _connected(self) -> Transport:
        with self._lock:
            if self.is_closed:
                raise ClosedError("the client was closed while it was used")
            if self._transport is None:
                self._transport = connect(self._config)
            return self._transport

    def _leave_thread(self) -> None:
        transport = self._transport
        if transport is not None:
            transport.leave_thread()
