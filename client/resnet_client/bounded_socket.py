"""A socket for ``http.client`` whose timeout bounds a whole request: name resolution, TLS and every byte.

The timeouts of urllib3 2.8 and httpx 0.28 apply to each read: a server that sends one byte every 0.1 s kept a call
with a timeout of 0.5 s waiting for 10 s in both.
"""

from __future__ import annotations

import io
import queue
import socket
import threading
import time
from typing import TYPE_CHECKING, Any

from resnet_client.requests import CONNECT_TIMEOUT_S

if TYPE_CHECKING:
    from ssl import SSLContext

    from resnet_client.endpoints import Endpoint

_CHUNK = 1 << 18


class BoundedSocket:
    """The part of a socket that ``http.client`` uses; each operation may take the time that is left.

    Attributes:
        end_s: deadline on the monotonic clock; set for each request.
    """

    def __init__(self, endpoint: Endpoint, tls: SSLContext | None, end_s: float) -> None:
        """Connect.

        Args:
            endpoint: the server.
            tls: for an encrypted connection; None for a plain one.
            end_s: deadline on the monotonic clock.

        Raises:
            TimeoutError: the timeout has passed; the error has no text.
            OSError: the server cannot be reached.
        """
        self.end_s = end_s
        self._readers = 0
        self._is_closed = False
        self._socket = _connected(endpoint, end_s)
        try:
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if tls is not None:
                self._socket = tls.wrap_socket(self._socket, server_hostname=endpoint.found_by or endpoint.host)
        except BaseException as exc:
            self._socket.close()
            if isinstance(exc, TimeoutError):
                _left_s(end_s)
            raise

    def sendall(self, content: Any) -> None:
        """Send everything."""
        view = memoryview(content)
        while view:
            self._socket.settimeout(_left_s(self.end_s))
            try:
                view = view[self._socket.send(view[:_CHUNK]) :]
            except TimeoutError:
                raise TimeoutError from None

    def makefile(self, _mode: str) -> io.BufferedReader:
        """A file to read from; the socket stays open until it is closed."""
        self._readers += 1
        return io.BufferedReader(_Reader(self))

    def receive_into(self, buffer: Any) -> int:
        """Read the available bytes, at least one; returns 0 at the end."""
        self._socket.settimeout(_left_s(self.end_s))
        try:
            return self._socket.recv_into(buffer)
        except TimeoutError:
            raise TimeoutError from None

    def reader_closed(self) -> None:
        """Count a file that was closed."""
        self._readers -= 1
        if self._is_closed and not self._readers:
            self._socket.close()

    def close(self) -> None:
        """Close the socket, or have its last file close it."""
        self._is_closed = True
        if not self._readers:
            self._socket.close()


class _Reader(io.RawIOBase):
    def __init__(self, source: BoundedSocket) -> None:
        self._source = source

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._source.receive_into(buffer)

    def close(self) -> None:
        if not self.closed:
            self._source.reader_closed()
        super().close()


def _left_s(end_s: float) -> float:
    left_s = end_s - time.monotonic()
    if left_s <= 0:
        raise TimeoutError
    return left_s


def _connected(endpoint: Endpoint, end_s: float) -> socket.socket:
    failure: OSError = OSError("DNS has no address for this host name")
    for family, kind, protocol, _, address in _addresses(endpoint, _left_s(end_s)):
        made = socket.socket(family, kind, protocol)
        try:
            made.settimeout(min(CONNECT_TIMEOUT_S, _left_s(end_s)))
            made.connect(address)
        except OSError as exc:
            made.close()
            _left_s(end_s)
            failure = exc
        except BaseException:
            made.close()
            raise
        else:
            return made
    raise failure


def _addresses(endpoint: Endpoint, timeout_s: float) -> list[Any]:
    """Resolve the host in a thread, because the system's resolver cannot be interrupted."""
    found: queue.SimpleQueue[list[Any] | OSError] = queue.SimpleQueue()

    def resolve(flags: int = 0) -> None:
        try:
            found.put(socket.getaddrinfo(endpoint.host, endpoint.port, type=socket.SOCK_STREAM, flags=flags))
        except (OSError, UnicodeError) as exc:  # UnicodeError: not a valid host name
            found.put(exc if isinstance(exc, OSError) else OSError(str(exc)))

    resolve(socket.AI_NUMERICHOST)
    answer = found.get()
    if isinstance(answer, OSError):
        threading.Thread(target=resolve, name="resnet-client-resolver", daemon=True).start()
        try:
            answer = found.get(timeout=timeout_s)
        except queue.Empty:
            raise TimeoutError from None
    if isinstance(answer, OSError):
        raise answer
    return answer
