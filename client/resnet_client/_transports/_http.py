"""HTTP, blocking: one connection for each thread.

tritonclient's HTTP client stands on gevent and is bound to the thread that made it. So each thread makes its
own with its first request. In a process that gevent has patched, a thread is a greenlet, and all stays true.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import gevent
import gevent.ssl
import tritonclient.http as protocol

from resnet_client._exceptions import ClosedError
from resnet_client._transports import _hubs
from resnet_client._transports._errors import translated
from resnet_client._transports._protocol import invocation, read

if TYPE_CHECKING:
    from collections.abc import Iterator

    from resnet_client._config import ClientConfig
    from resnet_client._requests import Request


class _Connection:
    """What one thread holds: a tritonclient HTTP client, and the event loop that gevent made for it."""

    def __init__(self, config: ClientConfig) -> None:
        self._config = config
        self._client: Any = None
        self._thread = threading.current_thread()
        self._hub = _hubs.lease()
        self.is_busy = False

    @property
    def client(self) -> Any:
        """The tritonclient, made when needed."""
        if self._client is None:
            certificate = self._config.ca_certificate
            self._client = protocol.InferenceServerClient(
                self._config.endpoint.target,
                # The limit around the whole request is stricter than any on single socket operations.
                connection_timeout=None,
                network_timeout=None,
                ssl=self._config.endpoint.is_tls,
                ssl_options={"ca_certs": str(certificate)} if certificate else None,
                ssl_context_factory=gevent.ssl.create_default_context,
            )
        return self._client

    @property
    def is_orphaned(self) -> bool:
        """Whether its thread has ended."""
        return not self._thread.is_alive()

    def close(self) -> None:
        """Close the sockets; the next request opens new ones."""
        client, self._client = self._client, None
        if client is not None:
            client.close()

    def abandon(self) -> None:
        """Close the sockets and the event loop; the thread ends or has ended."""
        self.close()
        _hubs.give_back(self._hub)


class HttpTransport:
    """A connection per thread, made when needed."""

    def __init__(self, config: ClientConfig) -> None:
        self._config = config
        self._thread = threading.local()
        self._connections: set[_Connection] = set()
        self._lock = threading.Lock()
        self._is_closed = False

    def send(self, request: Request, timeout_s: float) -> Any:
        """Send and read the answer."""
        with translated(self._config.url, timeout_s):
            method, arguments = invocation(protocol, request, timeout_s)
            with self._connection() as connection, _limit(timeout_s):
                return read(request, getattr(connection.client, method)(**arguments))

    def leave_thread(self) -> None:
        """Give back this thread's connection and event loop."""
        connection: _Connection | None = self._thread.__dict__.pop("connection", None)
        if connection is not None:
            with self._lock:
                self._connections.discard(connection)
            connection.abandon()

    def close(self) -> None:
        """Close all idle connections; a busy one is closed by its own thread after its request."""
        with self._lock:
            self._is_closed = True
            idle = [connection for connection in self._connections if not connection.is_busy]
        for connection in idle:
            connection.close()
        self._abandon_orphans()

    @contextmanager
    def _connection(self) -> Iterator[_Connection]:
        """The connection of this thread; after a failure it may hold half an answer and is closed."""
        connection = self._acquire()
        try:
            yield connection
        except protocol.InferenceServerException:
            raise  # a complete answer, only a bad one
        except BaseException:
            connection.close()
            raise
        finally:
            self._release(connection)

    def _acquire(self) -> _Connection:
        connection: _Connection | None = getattr(self._thread, "connection", None)
        if connection is None:
            self._abandon_orphans()
            connection = self._thread.connection = _Connection(self._config)
        with self._lock:
            if self._is_closed:
                raise ClosedError("the client was closed")
            self._connections.add(connection)
            connection.is_busy = True
        return connection

    def _release(self, connection: _Connection) -> None:
        with self._lock:
            connection.is_busy = False
            is_closed = self._is_closed
        if is_closed:
            connection.close()

    def _abandon_orphans(self) -> None:
        """Give back what threads held that ended without :meth:`leave_thread`."""
        with self._lock:
            orphans = {connection for connection in self._connections if connection.is_orphaned}
            self._connections -= orphans
        for connection in orphans:
            connection.abandon()


@contextmanager
def _limit(timeout_s: float) -> Iterator[None]:
    """Bound the wall time of what happens inside, DNS and TLS included."""
    limit = gevent.Timeout(timeout_s)
    try:
        with limit:
            yield
    except gevent.Timeout as exc:
        if exc is not limit:
            raise  # the caller's own, from further out
        raise TimeoutError from exc
