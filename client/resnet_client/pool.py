"""The server pool of one client: picks the server of each request and ejects failing servers. No I/O.

Servers take turns. A server is ejected if it cannot be reached, or fails or times out three times in a row; it gets no
requests until it has answered a probe. Pauses between probes grow. When all servers are ejected, they take turns
anyway, and the first that answers is healthy again.

gRPC's load balancing cannot do this for Triton: Triton has no health ``Watch``, its UNAVAILABLE means overloaded as
well as unreachable, and gRPC does not eject a server that does not answer.
"""

from __future__ import annotations

import contextlib
import logging
import math
import random
import threading
import time
from typing import TYPE_CHECKING

from resnet_client.errors import (
    ClosedError,
    DeadlineExceededError,
    ResnetClientError,
    ResponseError,
    UnavailableError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator

    from resnet_client.endpoints import Endpoint

_LOGGER = logging.getLogger("resnet_client")

MAX_FAILURES = 3
"""Consecutive failures of a reachable server that eject it."""

FIRST_EJECTION_S = 0.5
LONGEST_EJECTION_S = 10.0

RESOLVE_INTERVAL_S = 2.0
"""Seconds between two resolutions of a name; the system's resolver does not report how long an answer is valid."""

DRAIN_S = 1.0
"""Seconds for which a removed server keeps its connections, for calls that have picked it but not sent yet."""

IDLE_S = 30.0
"""Seconds without a call after which background checks stop until the next call."""


class Server:
    """One server and its state; only its pool writes here.

    Attributes:
        endpoint: its address.
        turn: when it was last picked, counted in picks of the pool.
        in_flight: requests that are in flight.
        failures: consecutive failures.
        ejections: consecutive ejections, without an answered request between.
        ejected_s: since when it gets no requests; None if it is healthy.
        probe_s: when it is probed next.
    """

    __slots__ = ("ejected_s", "ejections", "endpoint", "failures", "in_flight", "probe_s", "turn")

    def __init__(self, endpoint: Endpoint, turn: int = 0) -> None:
        self.endpoint = endpoint
        self.turn = turn
        self.in_flight = 0
        self.failures = 0
        self.ejections = 0
        self.ejected_s: float | None = None
        self.probe_s = 0.0


class _Name:
    """A DNS name, its servers, and when it was resolved."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.servers: dict[Endpoint, Server] = {}
        self.resolved_s = -math.inf
        self.failure: Exception | None = None


class Pool:
    """All servers of a client; safe for any number of threads.

    Args:
        endpoints: servers, and names that stand for servers; at least one.
        clock: monotonic seconds.
    """

    def __init__(self, endpoints: Iterable[Endpoint], clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        endpoints = tuple(endpoints)
        self._fixed = [Server(endpoint) for endpoint in endpoints if not endpoint.is_name]
        self._names = [_Name(endpoint) for endpoint in endpoints if endpoint.is_name]
        self._removed: list[tuple[float, Server]] = []
        self._servers = list(self._fixed)
        random.shuffle(self._servers)  # clients must not all start with the same server
        self._turn = 0
        self._used_s = clock()

    @property
    def is_single(self) -> bool:
        """Whether there is one server, always the same."""
        return not self._names and len(self._servers) == 1

    @property
    def servers(self) -> tuple[Server, ...]:
        """The servers known now."""
        return tuple(self._servers)

    def pick(self, tried: Collection[Server] = ()) -> Server | None:
        """The server for the next attempt: untried and healthy, or else healthy, or else any; in turn.

        Returns:
            None while no name has been resolved yet.

        Raises:
            UnavailableError: the names have no address.
        """
        if self.is_single:
            return self._servers[0]
        with self._lock:
            self._used_s = self._clock()
            if not self._servers:
                self._raise_failure()
                return None
            healthy = [server for server in self._servers if server.ejected_s is None]
            untried = [server for server in healthy if server not in tried]
            server = min(untried or healthy or self._servers, key=lambda server: server.turn)
            self._turn += 1
            server.turn = self._turn
            return server

    def has_another(self, tried: Collection[Server]) -> bool:
        """Whether a healthy server is left that was not tried."""
        return any(server.ejected_s is None and server not in tried for server in self.servers)

    @contextlib.contextmanager
    def observe(self, server: Server) -> Iterator[None]:
        """Record the result of the request in this block."""
        if self.is_single:
            yield
            return
        with self._lock:
            server.in_flight += 1
            started_s = self._clock()
        try:
            yield
        except BaseException as exc:
            self._end(server, started_s, exc)
            raise
        else:
            self._end(server, started_s, None)

    def is_idle(self) -> bool:
        """Whether the pool has been unused for :data:`IDLE_S`."""
        with self._lock:
            is_busy = any(server.in_flight for server in self._servers)
            return not is_busy and self._clock() - self._used_s > IDLE_S

    def names_due(self) -> list[Endpoint]:
        """Names to be resolved now."""
        with self._lock:
            return [n.endpoint for n in self._names if self._clock() - n.resolved_s >= RESOLVE_INTERVAL_S]

    def resolved(self, name: Endpoint, found: Collection[str] | Exception) -> None:
        """Take over the addresses of a name; if it could not be resolved, the known servers stay."""
        with self._lock:
            known = next(entry for entry in self._names if entry.endpoint == name)
            known.resolved_s = self._clock()
            if isinstance(found, Exception):
                known.failure = found
                return
            known.failure = None
            wanted = {name.at(address) for address in found}
            self._removed += [(self._clock(), s) for endpoint, s in known.servers.items() if endpoint not in wanted]
            # A new server takes its turn with the others, not before all of them.
            known.servers = {e: known.servers.get(e) or Server(e, self._turn) for e in sorted(wanted, key=str)}
            self._servers = [*self._fixed, *(s for entry in self._names for s in entry.servers.values())]

    def probes_due(self) -> list[Server]:
        """Ejected servers that are to be probed now."""
        with self._lock:
            now_s = self._clock()
            return [server for server in self._servers if server.ejected_s is not None and server.probe_s <= now_s]

    def take_drained(self) -> list[Endpoint]:
        """Endpoints of removed servers that have answered all requests; each is returned once."""
        with self._lock:
            last_s = self._clock() - DRAIN_S
            returned = {server.endpoint for server in self._servers}  # shares its connections with the new server
            drained = [server for removed_s, server in self._removed if removed_s <= last_s and not server.in_flight]
            self._removed = [(removed_s, server) for removed_s, server in self._removed if server not in drained]
            return [server.endpoint for server in drained if server.endpoint not in returned]

    def after_fork(self) -> None:
        """Forget in a child process what is in flight in its parent."""
        self._lock = threading.Lock()
        for server in (*self._servers, *(server for _, server in self._removed)):
            server.in_flight = 0

    def _end(self, server: Server, started_s: float, error: BaseException | None) -> None:
        with self._lock:
            server.in_flight -= 1
            if server.ejected_s is not None and started_s < server.ejected_s:
                return  # a request from before the ejection does not show whether the server has recovered
            if isinstance(error, UnavailableError | ResponseError | DeadlineExceededError):
                server.failures += 1
                is_ejected = server.ejected_s is not None
                if isinstance(error, UnavailableError) or server.failures >= MAX_FAILURES or is_ejected:
                    self._eject(server, error)
            elif error is None or (isinstance(error, ResnetClientError) and not isinstance(error, ClosedError)):
                self._mark_healthy(server)  # an error of the request is an answer; an abandoned request shows nothing

    def _raise_failure(self) -> None:
        for name in self._names:
            if name.failure is not None:
                raise UnavailableError(
                    f"{name.endpoint} cannot be resolved: {name.failure}; check the URL"
                ) from name.failure

    def _eject(self, server: Server, reason: Exception) -> None:
        now_s = self._clock()
        if server.ejected_s is not None and now_s < server.probe_s:
            return  # only a failed probe makes the ejection longer
        if server.ejected_s is None:
            _LOGGER.warning(
                "%s failed (%s); no requests are sent to it until it answers a probe", server.endpoint, reason
            )
        pause_s = min(LONGEST_EJECTION_S, FIRST_EJECTION_S * 2.0 ** min(server.ejections, 10))
        server.ejections += 1
        server.ejected_s = now_s
        server.probe_s = now_s + pause_s * random.uniform(0.8, 1.2)  # noqa: S311  # spreads load; not for security

    def _mark_healthy(self, server: Server) -> None:
        server.failures = 0
        if server.ejected_s is None:
            server.ejections = 0
        else:
            server.ejected_s = None
            _LOGGER.info("%s is healthy again", server.endpoint)
