"""A socket for ``http.client`` whose timeout bounds a whole request: name resolution, TLS and every byte.

The timeouts of urllib3 2.8 and httpx 0.28 apply to each read: a server that sends one byte every 0.1 s kept a call
with a timeout of 0.5 s waiting for 10 s in both.
"""

from __future__ import annotations

import queue
import socket
import ssl
import threading
import time
from typing import TYPE_CHECKING, Any

from resnet_client.requests import CONNECT_TIMEOUT_S

if TYPE_CHECKING:
    from resnet_client.endpoints import Endpoint

_CHUNK = 1 << 18


class BoundedSocket(socket.socket):
    """A socket of which each read and write may take the time that is left.

    Attributes:
        end_s: deadline on the monotonic clock; set for each request.
    """

    end_s = 0.0

    def sendall(self, data: Any, flags: int = 0) -> None:
        """Send everything."""
        view = memoryview(data)
        while view:
            self.settimeout(_left_s(self.end_s))
            try:
                view = view[self.send(view[:_CHUNK], flags) :]
            except TimeoutError:
                raise TimeoutError from None

    def recv_into(self, buffer: Any, nbytes: int | None = None, flags: int = 0) -> int:
        """Read the available bytes, at least one; returns 0 at the end."""
        self.settimeout(_left_s(self.end_s))
        try:
            return super().recv_into(buffer, nbytes or len(buffer), flags)
        except TimeoutError:
            raise TimeoutError from None


class _BoundedTlsSocket(BoundedSocket, ssl.SSLSocket):
    """The same over TLS."""


def connect(endpoint: Endpoint, tls: ssl.SSLContext | None, end_s: float) -> socket.socket:
    """Connect.

    Args:
        endpoint: the server.
        tls: for an encrypted connection; None for a plain one.
        end_s: deadline on the monotonic clock.

    Raises:
        TimeoutError: the timeout has passed; the error has no text.
        OSError: the server cannot be reached.
    """
    plain = _connected(endpoint, end_s)
    try:
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls is None:
            return plain
        tls.sslsocket_class = _BoundedTlsSocket
        return tls.wrap_socket(plain, server_hostname=endpoint.found_by or endpoint.host)
    except BaseException as exc:
        plain.close()
        if isinstance(exc, TimeoutError):
            _left_s(end_s)
        raise


def _left_s(end_s: float) -> float:
    left_s = end_s - time.monotonic()
    if left_s <= 0:
        raise TimeoutError
    return left_s


def _connected(endpoint: Endpoint, end_s: float) -> BoundedSocket:
    failure: OSError = OSError("DNS has no address for this host name")
    for family, kind, protocol, _, address in _addresses(endpoint, _left_s(end_s)):
        made = BoundedSocket(family, kind, protocol)
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
