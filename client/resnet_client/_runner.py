"""Performs flows blocking: the only place where :class:`Client` waits for anything."""

from __future__ import annotations

import atexit
import contextlib
import threading
import weakref
from typing import TYPE_CHECKING, Any, TypeVar, cast

from resnet_client import _forks
from resnet_client._exceptions import ClosedError, ResnetClientError, ServerError
from resnet_client._flows import one_of_many
from resnet_client._many import in_order
from resnet_client._progress import bar
from resnet_client._steps import Part, Pause, Work
from resnet_client._transports import connect

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from resnet_client._config import ClientConfig
    from resnet_client._delivery import Delivery
    from resnet_client._endpoint import Endpoint
    from resnet_client._images import ImageSource
    from resnet_client._results import Outcome
    from resnet_client._steps import Flow, Send, Step
    from resnet_client._transports import Transport

T = TypeVar("T")

_LEAVING_S = 1.0


class Runner:
    """One transport for each server, made with the first request to it, shared by all threads.

    Args:
        config: how to connect.
        delivery: its care for several servers runs in a thread of its own, while there are calls; its farewell is
            performed when the client is closed, at the latest when Python ends.
    """

    def __init__(self, config: ClientConfig, delivery: Delivery) -> None:
        self._config = config
        self._delivery = delivery
        self._carer: threading.Thread | None = None
        self._lock = threading.Lock()
        self._transports: dict[Endpoint, Transport] = {}
        self._closed = threading.Event()
        _forks.watch(self)
        if delivery.lends:
            atexit.register(_close, weakref.ref(self))

    @property
    def is_closed(self) -> bool:
        """Whether nothing can be sent any more."""
        return self._closed.is_set()

    def run(self, flow: Flow[T]) -> T:
        """Perform a flow's steps until it returns."""
        if self._delivery.needs_care and (self._carer is None or not self._carer.is_alive()):
            self._start_care()
        return self._drive(flow)

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
            outcomes = in_order(sources, perform, max_in_flight=max_in_flight)
            with contextlib.closing(outcomes):
                for outcome in outcomes:
                    advance(outcome)
                    yield outcome

    def close(self) -> None:
        """Close the transports; pauses end."""
        if not self.is_closed:
            with contextlib.suppress(ResnetClientError):
                self._drive(self._delivery.farewell())
        with self._lock:
            self._closed.set()
        if self._carer is not None:
            self._carer.join(_LEAVING_S)  # it may wait for the name service; it is a daemon
        for transport in self._transports.values():
            transport.close()

    def after_fork(self) -> None:
        """Begin anew in a child process: connections, and locks that threads held which are not there."""
        is_closed = self.is_closed
        self._lock = threading.Lock()
        self._closed = threading.Event()
        if is_closed:
            self._closed.set()
        self._carer = None
        left, self._transports = self._transports, {}
        for transport in left.values():
            transport.leave()
        self._delivery.after_fork()

    def _drive(self, flow: Flow[T]) -> T:
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
        finally:
            flow.close()  # also when this call is cancelled or interrupted

    def _perform(self, step: Step) -> Any:
        if isinstance(step, Work):
            return step.run()
        if isinstance(step, Pause):
            if self._closed.wait(step.duration_s):
                raise ClosedError("the client was closed while it waited")
            return None
        if isinstance(step, Part):
            return self._part(step.endpoint)
        return self._send(step)

    def _send(self, step: Send) -> Any:
        try:
            return self._connected(step.endpoint).send(step.request, step.deadline.remaining_s())
        except ServerError as exc:
            if self.is_closed:
                raise ClosedError("the client was closed while it waited for an answer") from exc
            raise

    def _connected(self, endpoint: Endpoint) -> Transport:
        with self._lock:
            if self.is_closed:
                raise ClosedError("the client was closed while it was used")
            if (transport := self._transports.get(endpoint)) is None:
                transport = self._transports[endpoint] = connect(self._config, endpoint)
            return transport

    def _part(self, endpoint: Endpoint) -> None:
        with self._lock:
            transport = self._transports.pop(endpoint, None)
        if transport is not None:
            transport.close()

    def _start_care(self) -> None:
        def look_after() -> None:
            with contextlib.suppress(ClosedError):
                self._drive(self._delivery.care())

        with self._lock:
            if not self.is_closed and (self._carer is None or not self._carer.is_alive()):
                self._carer = threading.Thread(target=look_after, name="resnet-client-fleet", daemon=True)
                self._carer.start()


def _close(reference: weakref.ref[Runner]) -> None:
    if (runner := reference()) is not None:
        runner.close()
