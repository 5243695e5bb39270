"""The servers of one client: who gets the next request, who is left out for a while. No I/O happens here.

Servers take turns. One that cannot be reached is ejected at once, one that fails again and again after a few
times; it gets no requests until it has answered a probe. Probes come after pauses that grow, so that a server
in trouble is left in peace. When all are ejected, they take turns all the same: whoever answers is back.
"""

from __future__ import annotations

import enum
import logging
import math
import random
import threading
import time
from typing import TYPE_CHECKING

from resnet_client._exceptions import DeadlineExceededError, ResponseError, ServerError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from resnet_client._endpoint import Endpoint

_LOGGER = logging.getLogger("resnet_client")

STRIKES = 3
"""So many failures in a row, of a server that can be reached, eject it."""

FIRST_EJECTION_S = 0.5
LONGEST_EJECTION_S = 10.0

RESOLVE_INTERVAL_S = 5.0
"""Names are resolved anew so often; the system's resolver does not tell how long an answer is good for."""

SHORTEST_RESOLVE_INTERVAL_S = 1.0
"""But not more often than this, whatever fails."""

PARTING_S = 1.0
"""A server that is gone keeps its connections so long, for calls that have picked it but not sent yet."""

IDLE_S = 30.0
"""A fleet that nobody has used for so long is not looked after any more, until the next call."""


class Verdict(enum.Enum):
    """What the end of a request says about the server."""

    GOOD = enum.auto()  # it answered, whatever it said
    SUSPECT = enum.auto()  # it failed inside, or kept silent
    DOWN = enum.auto()  # it cannot be reached
    NONE = enum.auto()  # the request was abandoned


def verdict(error: ServerError) -> Verdict:
    """What an error says about the server that it came from."""
    if isinstance(error, UnavailableError):
        return Verdict.DOWN
    return Verdict.SUSPECT if isinstance(error, ResponseError | DeadlineExceededError) else Verdict.GOOD


class Server:
    """One server and what is known of it; only its fleet writes here.

    Attributes:
        endpoint: where it is.
        turn: when it was last picked, counted in picks of the fleet.
        busy: requests under way.
        strikes: failures in a row.
        ejections: how often in a row, without an answered request between.
        ejected_s: since when it gets no requests; None if it does.
        probe_s: when it is probed next.
    """

    __slots__ = ("busy", "ejected_s", "ejections", "endpoint", "probe_s", "strikes", "turn")

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.turn = 0
        self.busy = 0
        self.strikes = 0
        self.ejections = 0
        self.ejected_s: float | None = None
        self.probe_s = 0.0


class _Name:
    """A name, the servers that it led to, and when it is resolved next."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.servers: dict[Endpoint, Server] = {}
        self.resolved_s = -math.inf
        self.failure: Exception | None = None


class Fleet:
    """All servers of a client; for any number of threads.

    Args:
        endpoints: servers, and names that stand for servers; at least one.
        clock: seconds that never run backwards.
    """

    def __init__(self, endpoints: Iterable[Endpoint], clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        endpoints = tuple(endpoints)
        self._fixed = [Server(endpoint) for endpoint in endpoints if not endpoint.is_name]
        self._names = [_Name(endpoint) for endpoint in endpoints if endpoint.is_name]
        self._gone: list[tuple[float, Server]] = []
        self._servers = list(self._fixed)
        random.shuffle(self._servers)  # not every client is to begin with the same one
        self._turn = 0
        self._used_s = clock()
        self._has_news = False

    @property
    def is_single(self) -> bool:
        """Whether there is nothing to choose: one server, and always the same."""
        return not self._names and len(self._servers) == 1

    @property
    def servers(self) -> tuple[Server, ...]:
        """Those known now."""
        return tuple(self._servers)

    def pick(self, tried: Collection[Server] = ()) -> Server | None:
        """The server for the next attempt: untried and healthy, or else healthy, or else any; in turn.

        Returns:
            None while no name has been resolved yet.

        Raises:
            UnavailableError: the names lead nowhere.
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

    def begin(self, server: Server) -> float:
        """A request goes to this server; returns the time, for :meth:`end`."""
        with self._lock:
            server.busy += 1
        return self._clock()

    def end(self, server: Server, began_s: float, verdict: Verdict, reason: object = "") -> None:
        """The request is over.

        Args:
            server: that it went to.
            began_s: what :meth:`begin` returned; what was sent before an ejection tells nothing about the time after.
            verdict: what its end says about the server.
            reason: of a failure, for the log.
        """
        with self._lock:
            server.busy -= 1
            if server.ejected_s is not None and began_s < server.ejected_s:
                return
            if verdict is Verdict.GOOD:
                self._welcome(server)
            elif verdict is not Verdict.NONE:
                server.strikes += 1
                if verdict is Verdict.DOWN or server.strikes >= STRIKES or server.ejected_s is not None:
                    self._eject(server, reason)

    def is_idle(self) -> bool:
        """Whether nobody has used the fleet for a while."""
        with self._lock:
            is_busy = any(server.busy for server in self._servers)
            return not is_busy and self._clock() - self._used_s > IDLE_S

    def names_due(self) -> list[Endpoint]:
        """Names to be resolved now: regularly, and earlier after an ejection."""
        with self._lock:
            interval_s = SHORTEST_RESOLVE_INTERVAL_S if self._has_news or not self._servers else RESOLVE_INTERVAL_S
            due = [n.endpoint for n in self._names if self._clock() - n.resolved_s >= interval_s]
            self._has_news = self._has_news and not due
            return due

    def resolved(self, name: Endpoint, found: Collection[str] | Exception) -> None:
        """A name was resolved; while it cannot be, the servers known stay."""
        with self._lock:
            known = next(entry for entry in self._names if entry.endpoint == name)
            known.resolved_s = self._clock()
            if isinstance(found, Exception):
                known.failure = found
                return
            known.failure = None
            wanted = {name.at(address) for address in found}
            self._gone += [(self._clock(), s) for endpoint, s in known.servers.items() if endpoint not in wanted]
            known.servers = {e: known.servers.get(e) or self._newcomer(e) for e in sorted(wanted, key=str)}
            self._servers = [*self._fixed, *(s for entry in self._names for s in entry.servers.values())]

    def probes_due(self) -> list[Server]:
        """Ejected servers that are to be asked now whether they answer."""
        with self._lock:
            now_s = self._clock()
            return [server for server in self._servers if server.ejected_s is not None and server.probe_s <= now_s]

    def take_gone(self) -> list[Server]:
        """Servers that no name leads to any more and that have answered all they were sent."""
        with self._lock:
            last_s = self._clock() - PARTING_S
            back = {server.endpoint for server in self._servers}  # such a one shares its connections with the new
            done = [server for gone_s, server in self._gone if gone_s <= last_s and not server.busy]
            self._gone = [(gone_s, server) for gone_s, server in self._gone if server not in done]
            return [server for server in done if server.endpoint not in back]

    def after_fork(self) -> None:
        """Begin anew in a child process: what is under way there is its parent's."""
        self._lock = threading.Lock()
        for server in (*self._servers, *(server for _, server in self._gone)):
            server.busy = 0

    def _raise_failure(self) -> None:
        for name in self._names:
            if name.failure is not None:
                raise UnavailableError(f"{name.endpoint} leads to no server: {name.failure}") from name.failure

    def _newcomer(self, endpoint: Endpoint) -> Server:
        server = Server(endpoint)
        server.turn = self._turn  # its turn comes with the others', not before all of them
        return server

    def _eject(self, server: Server, reason: object) -> None:
        now_s = self._clock()
        if server.ejected_s is not None and now_s < server.probe_s:
            return  # requests that had no choice; only a probe that failed makes it longer
        if server.ejected_s is None:
            _LOGGER.warning("%s gets no requests until it answers again: %s", server.endpoint, reason)
            self._has_news = True
        pause_s = min(LONGEST_EJECTION_S, FIRST_EJECTION_S * 2.0 ** min(server.ejections, 10))
        server.ejections += 1
        server.ejected_s = now_s
        server.probe_s = now_s + pause_s * random.uniform(0.8, 1.2)  # noqa: S311  # spreads load, guards no secret

    def _welcome(self, server: Server) -> None:
        server.strikes = 0
        if server.ejected_s is None:
            server.ejections = 0
        else:
            server.ejected_s = None
            _LOGGER.info("%s answers again", server.endpoint)
