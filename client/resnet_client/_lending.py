"""How photos get to a server through shared memory, where it takes them so: as flows, without I/O with the server.

A server that maps the client's memory reads a photo there instead of from its connection. Whether it can and may is
found out by asking it; where not, photos travel with their requests, as always.
"""

from __future__ import annotations

import dataclasses
import logging
from typing import TYPE_CHECKING, Any

from resnet_client._deadline import Deadline
from resnet_client._exceptions import (
    ClosedError,
    DeadlineExceededError,
    ResnetClientError,
    ServerError,
    UnavailableError,
)
from resnet_client._requests import Call, Inference, readable
from resnet_client._steps import Pause, Send

if TYPE_CHECKING:
    from resnet_client._endpoint import Endpoint
    from resnet_client._requests import Request
    from resnet_client._shared_memory import Region, Regions
    from resnet_client._steps import Flow

_LOGGER = logging.getLogger("resnet_client")

SMALLEST_BYTES = 1 << 16
"""What is smaller travels as fast with its request."""

_GRACE_S = 10.0  # how long after its deadline a server may still look at a photo that nobody waits for
_FAREWELL_S = 1.0
_IN_USE = "currently in use"
_IN_USE_POLL_S = 0.01
_UNANSWERED = (ClosedError, DeadlineExceededError, UnavailableError)
_NONE_HERE = "no shared memory here (%s); photos travel with their requests"


class Lending:
    """The shared memory of one client, and which servers take it."""

    def __init__(self) -> None:
        self._regions: Regions | None = None
        try:
            from resnet_client._shared_memory import Regions

            self._regions = Regions()
        except ImportError as exc:  # a system without file locks
            _LOGGER.warning(_NONE_HERE, exc)
        self._refusing: set[Endpoint] = set()
        self._tidied: set[Endpoint] = set()
        self._is_told = False

    def send(self, endpoint: Endpoint, request: Request, deadline: Deadline) -> Flow[Any]:
        """Send once, to this server; a large photo through shared memory if that is possible."""
        regions, region = self._regions, self._region(endpoint, request)
        if regions is None or region is None or not isinstance(request, Inference):
            return (yield Send(endpoint, request, deadline))
        rest_s = deadline.left_s + _GRACE_S  # if nobody waits for the answer any more
        try:
            request.write_into(region.memory)
            answer = yield from self._lent(endpoint, request, region, deadline)
            rest_s = 0.0
        except ResnetClientError as exc:
            rest_s = rest_s if isinstance(exc, _UNANSWERED) else 0.0
            raise
        finally:
            regions.give_back(region, rest_s)
        return answer

    def end(self) -> Flow[None]:
        """Take all memory back: from the servers, as far as they answer, and from this machine."""
        if self._regions is None:
            return
        deadline = Deadline(_FAREWELL_S)
        gone: set[Endpoint] = set()
        try:
            for region in self._regions.all:
                for endpoint in region.known_to - gone:
                    try:
                        yield from _taken_back(endpoint, region.name, deadline)
                    except ServerError:
                        gone.add(endpoint)
        finally:
            self._regions.remove()

    def _lent(self, endpoint: Endpoint, request: Inference, region: Region, deadline: Deadline) -> Flow[Any]:
        placed = dataclasses.replace(request, region=region.name)
        for _ in range(2):
            if not (yield from self._is_known(endpoint, region, deadline)):
                break
            try:
                return (yield Send(endpoint, placed, deadline))
            except ServerError as exc:
                if region.name not in str(exc):
                    raise
                region.known_to.discard(endpoint)  # the server has forgotten it: it was started again
        return (yield Send(endpoint, request, deadline))

    def _is_known(self, endpoint: Endpoint, region: Region, deadline: Deadline) -> Flow[bool]:
        """Make the server map a region, unless it has, or refuses."""
        if endpoint in region.known_to:
            return True
        try:
            yield Send(endpoint, _register(region), deadline)
        except _UNANSWERED:
            raise  # the photo would fare no better
        except ServerError as exc:
            if "already in manager" not in str(exc):  # it is there twice: by gRPC and by HTTP
                self._refusing.add(endpoint)
                _LOGGER.warning("%s; photos travel with their requests", exc)
                return False
        region.known_to.add(endpoint)
        if endpoint not in self._tidied:
            self._tidied.add(endpoint)
            yield from self._tidy(endpoint, deadline)
        return True

    def _tidy(self, endpoint: Endpoint, deadline: Deadline) -> Flow[None]:
        """Make the server let go of what processes left that are gone; their memory is its memory."""
        from resnet_client._shared_memory import is_orphan

        try:
            found = yield Send(endpoint, Call("get_system_shared_memory_status"), deadline)
            for name in _names(found):
                if is_orphan(name):
                    yield Send(endpoint, _unregister(name), deadline)
        except ServerError as exc:
            _LOGGER.debug("tidying up: %s", exc)

    def _region(self, endpoint: Endpoint, request: Request) -> Region | None:
        if self._regions is None or endpoint in self._refusing or not isinstance(request, Inference):
            return None
        if (size := request.byte_size) < SMALLEST_BYTES:
            return None
        try:
            return self._regions.take(size)
        except OSError as exc:
            if not self._is_told:
                self._is_told = True
                _LOGGER.warning(_NONE_HERE, exc)
            return None


def _register(region: Region) -> Call:
    whole = {"key": f"/{region.name}", "offset": 0, "byte_size": region.size}
    return Call("register_system_shared_memory", {"name": region.name, **whole})


def _taken_back(endpoint: Endpoint, name: str, deadline: Deadline) -> Flow[None]:
    """Make a server let go of a region; it refuses until it has dropped the request that it answered a moment ago."""
    while True:
        try:
            yield Send(endpoint, _unregister(name), deadline)
        except ServerError as exc:
            if _IN_USE not in str(exc) or deadline.left_s <= _IN_USE_POLL_S:
                raise
            yield Pause(_IN_USE_POLL_S)
        else:
            return


def _unregister(name: str) -> Call:
    return Call("unregister_system_shared_memory", {"name": name})


@readable("shared memory")
def _names(status: Any) -> list[str]:
    """The regions that a server knows: gRPC has a dictionary of them, HTTP a list."""
    return list(status.get("regions", {})) if isinstance(status, dict) else [region["name"] for region in status]
