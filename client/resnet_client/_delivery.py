"""How a request finds a server that answers: which one is asked, and whether another is after a failure.

All as flows, without I/O; every request of a client goes through here.
"""

from __future__ import annotations

import functools
import logging
import socket
from typing import TYPE_CHECKING, Any

from resnet_client import _images, _requests, _retries
from resnet_client._deadline import Deadline
from resnet_client._exceptions import (
    ClosedError,
    DeadlineExceededError,
    ModelNotFoundError,
    OverloadedError,
    ResnetClientError,
    ResponseError,
    ServerError,
    UnavailableError,
)
from resnet_client._fleet import Fleet, Verdict, verdict
from resnet_client._lending import Lending
from resnet_client._steps import Part, Pause, Send, Work

if TYPE_CHECKING:
    from collections.abc import Collection

    from resnet_client._config import ClientConfig
    from resnet_client._endpoint import Endpoint
    from resnet_client._fleet import Server
    from resnet_client._requests import Request
    from resnet_client._steps import Flow

_LOGGER = logging.getLogger("resnet_client")
# Python prints warnings that nobody handles, and a library must not.
_LOGGER.addHandler(logging.NullHandler())

_PROBE_TIMEOUT_S = 5.0
_CARE_INTERVAL_S = 0.2
_NAME_POLL_S = 0.01


class Delivery:
    """Sends requests for one client; holds its fleet and its budget of retries."""

    def __init__(self, config: ClientConfig) -> None:
        self._config = config
        self._fleet = Fleet(config.endpoints)
        self._budget = _retries.RetryBudget()
        self._lending = Lending() if config.shared_memory else None

    @property
    def needs_care(self) -> bool:
        """Whether :meth:`care` has to run beside the calls."""
        return not self._fleet.is_single

    @property
    def lends(self) -> bool:
        """Whether there may be something to take back in the end."""
        return self._lending is not None

    def send(self, request: Request, deadline: Deadline, only: Server | None = None) -> Flow[Any]:
        """Send until it is answered, or another attempt is not worth it.

        An attempt at a healthy server that was not tried yet follows at once. Else there is a pause, and all
        may be tried again; ``max_attempts`` counts such rounds.

        Args:
            request: what to ask.
            deadline: of all attempts together.
            only: the one server to ask.
        """
        if self._config.retry_overload:
            self._budget.earn()
        attempt = 1
        tried: set[Server] = set()
        while True:
            try:
                server = only or (yield from self.pick(deadline, tried))
                tried.add(server)
                return (yield from self.once(server, request, deadline))
            except ServerError as exc:
                is_fresh = only is None and self._fleet.has_another(tried)
                pause_s = 0.0 if is_fresh else _retries.pause_s(attempt, deadline.timeout_s)
                has_chance = is_fresh or attempt < self._config.max_attempts
                if not has_chance or deadline.left_s <= pause_s or not self._may_repeat(exc, tried, is_fresh=is_fresh):
                    raise
                _LOGGER.warning("%s; trying again in %.2f s", exc, pause_s)
                if isinstance(request, _requests.Inference):
                    request.span.retries(exc, pause_s)
            if pause_s:
                yield Pause(pause_s)
                tried.clear()
                attempt += 1

    def once(self, server: Server, request: Request, deadline: Deadline) -> Flow[Any]:
        """Send once, to this server, and remember how it went."""
        if self._fleet.is_single:
            return (yield from self._sent(server, request, deadline))
        deadline.remaining_s()  # time that ran out before it was asked is no fault of the server's
        began_s = self._fleet.begin(server)
        found, reason = Verdict.NONE, None
        try:
            answer = yield from self._sent(server, request, deadline)
        except ServerError as exc:
            found, reason = verdict(exc), exc
            raise
        except ResnetClientError as exc:  # a bad photo is a good answer
            found = Verdict.NONE if isinstance(exc, ClosedError) else Verdict.GOOD
            raise
        else:
            found = Verdict.GOOD
            return answer
        finally:
            self._fleet.end(server, began_s, found, reason)

    def pick(self, deadline: Deadline, tried: Collection[Server] = ()) -> Flow[Server]:
        """The server for the next attempt; waits until names have been resolved for the first time."""
        while (server := self._fleet.pick(tried)) is None:
            if deadline.left_s <= 0:
                raise DeadlineExceededError(f"{self._config.url} was not resolved within {deadline.timeout_s:g} s")
            yield Pause(_NAME_POLL_S)
        return server

    def servers(self, deadline: Deadline) -> Flow[tuple[Server, ...]]:
        """All servers."""
        yield from self.pick(deadline)
        return self._fleet.servers

    def care(self) -> Flow[None]:
        """Look after the fleet: resolve names, probe who is ejected, part from who is gone. Ends when it is idle."""
        while not self._fleet.is_idle():
            yield from self._resolve()
            for server in self._fleet.probes_due():
                if server in self._fleet.servers:
                    yield from self._probe(server)
                    # The dead keep a probe waiting for seconds; what names lead to by now may answer.
                    yield from self._resolve()
            for server in self._fleet.take_gone():
                yield Part(server.endpoint)
            yield Pause(_CARE_INTERVAL_S)

    def farewell(self) -> Flow[None]:
        """Take back what was lent to servers, before the client is closed."""
        if self._lending is not None:
            yield from self._lending.end()

    def after_fork(self) -> None:
        """Begin anew in a child process, where no request is under way."""
        self._fleet.after_fork()
        self._budget.after_fork()

    def _sent(self, server: Server, request: Request, deadline: Deadline) -> Flow[Any]:
        if self._lending is None:
            return (yield Send(server.endpoint, request, deadline))
        return (yield from self._lending.send(server.endpoint, request, deadline))

    def _may_repeat(self, error: ServerError, tried: set[Server], *, is_fresh: bool) -> bool:
        if isinstance(error, OverloadedError):
            return self._config.retry_overload and self._budget.spend()
        if isinstance(error, ResponseError):
            # The server failed at it. Another one may do better; more of them must not fall over one request.
            return is_fresh and len(tried) == 1
        if isinstance(error, ModelNotFoundError):
            return is_fresh  # a server that starts or stops has no models for a moment; another one has
        return isinstance(error, UnavailableError)

    def _resolve(self) -> Flow[None]:
        for name in self._fleet.names_due():
            self._fleet.resolved(name, (yield Work(functools.partial(_addresses, name))))

    def _probe(self, server: Server) -> Flow[None]:
        """A real photo through the real model: flags say «ready» when nothing works any more."""
        input_name, tensor = _requests.input_of(_images.golden())
        version = self._config.model_version or ""
        request = _requests.Inference(
            self._config.model, version, input_name, tensor, _requests.PROBABILITIES, class_count=1
        )
        try:
            yield from self.once(server, request, Deadline(_PROBE_TIMEOUT_S))
        except ClosedError:
            raise
        except ResnetClientError as exc:
            _LOGGER.debug("probe: %s", exc)


def _addresses(name: Endpoint) -> list[str] | Exception:
    """All addresses of a name, or why there are none."""
    try:
        found = socket.getaddrinfo(name.host, name.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as exc:  # UnicodeError: what cannot be a host's name
        return exc
    return [str(address[0]) for *_, address in found]
