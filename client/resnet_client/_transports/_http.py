"""HTTP, blocking: a pool of connections for all threads.

The connections are those of the standard library, on sockets that know when time is up: tritonclient's own need
a gevent hub in every thread, which nobody can take away safely once its thread has ended.
"""

from __future__ import annotations

import http.client
import threading
import time
from typing import TYPE_CHECKING, Any

from resnet_client import _tls
from resnet_client._exceptions import ClosedError
from resnet_client._transports import _http_words
from resnet_client._transports._errors import translated
from resnet_client._transports._sockets import BoundedSocket

if TYPE_CHECKING:
    from resnet_client._config import ClientConfig
    from resnet_client._endpoint import Endpoint
    from resnet_client._requests import Request
    from resnet_client._transports._http_words import Message


class _Connection(http.client.HTTPConnection):
    """One connection, used for one request at a time."""

    def __init__(self, endpoint: Endpoint, connected: BoundedSocket) -> None:
        super().__init__(endpoint.host, endpoint.port)
        self.sock: BoundedSocket | Any = connected
        self.auto_open = 0  # a closed one stays closed

    def exchange(self, message: Message, end_s: float) -> tuple[int, Any, bytes]:
        """Send and read before time is up: status, headers, content."""
        self.sock.end_s = end_s
        self.request(message.method, message.path, message.body, message.headers)
        with self.getresponse() as response:
            return response.status, response.headers, response.read()


class HttpTransport:
    """Idle connections wait for any thread; there are as many as there were requests at once."""

    def __init__(self, config: ClientConfig, endpoint: Endpoint) -> None:
        self._config = config
        self._endpoint = endpoint
        self._url = str(endpoint)
        self._tls = _tls.context(config) if endpoint.is_tls else None
        self._lock = threading.Lock()
        self._idle: list[_Connection] = []
        self._is_closed = False

    def send(self, request: Request, timeout_s: float) -> Any:
        """Send and read the answer."""
        with translated(self._url, timeout_s):
            message = _http_words.message(self._config, self._endpoint, request, timeout_s)
            return _http_words.answer(request, *self._exchange(message, timeout_s))

    def close(self) -> None:
        """Close all idle connections; a busy one is closed after its request."""
        with self._lock:
            self._is_closed = True
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def leave(self) -> None:
        """In a child process: close its copies of the idle connections, which nobody else notices."""
        for connection in self._idle:
            connection.close()

    def _exchange(self, message: Message, timeout_s: float) -> tuple[int, Any, bytes]:
        end_s = time.monotonic() + timeout_s
        with self._lock:
            if self._is_closed:
                raise ClosedError("the client was closed")
            connection = self._idle.pop() if self._idle else None
        if connection is not None:
            try:
                return self._use(connection, message, end_s)
            except TimeoutError:
                raise
            except OSError:
                pass  # the server has closed it while it was idle, or is gone: a new one tells
        return self._use(_Connection(self._endpoint, BoundedSocket(self._endpoint, self._tls, end_s)), message, end_s)

    def _use(self, connection: _Connection, message: Message, end_s: float) -> tuple[int, Any, bytes]:
        try:
            found = connection.exchange(message, end_s)
        except BaseException:
            connection.close()  # it may hold half an answer
            raise
        with self._lock:
            is_reusable = connection.sock is not None and not self._is_closed
            if is_reusable:
                self._idle.append(connection)
        if not is_reusable:
            connection.close()
        return found
