"""Resolves hosts, finds free TCP ports, and checks whether a port is taken or accepts connections."""

from __future__ import annotations

import contextlib
import socket

from resnet_serve.config import LOOPBACK, ServerError

HIGHEST = 65535


def address_of(host: str) -> str:
    """Return the IP address of a host to listen on, because Triton resolves no names for HTTP; IPv4 if it has both.

    Raises:
        ServerError: the name cannot be resolved.
    """
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as exc:
        raise ServerError(f"cannot listen on {host} ({exc}): choose another --host") from exc
    return min((str(address[0]) for *_, address in found), key=lambda address: ":" in address)


def reachable(host: str) -> str:
    """Return the address that this machine connects to for a server that listens on ``host``."""
    address = address_of(host)
    return {"0.0.0.0": LOOPBACK, "::": "::1"}.get(address, address)  # noqa: S104  # comparison


def accepts(host: str, port: int, *, timeout_s: float) -> bool:
    """Return whether a connection to this port is accepted."""
    try:
        socket.create_connection((host, port), timeout_s).close()
    except OSError:
        return False
    return True


def free_ports(host: str, count: int) -> list[int]:
    """Return free ports. Another process may take one before the server does, so the caller has to retry."""
    address = address_of(host)
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(_socket(address)) for _ in range(count)]
        for candidate in sockets:
            try:
                candidate.bind((address, 0))
            except OSError as exc:
                raise ServerError(f"cannot listen on {host} ({exc.strerror}): choose another --host") from exc
        return [candidate.getsockname()[1] for candidate in sockets]


def refuse_taken(host: str, port: int) -> None:
    """Check that a port can be listened on.

    Raises:
        ServerError: it is taken, or the address is not one of this machine's.
    """
    address = address_of(host)
    with _socket(address) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError as exc:
            raise ServerError(
                f"cannot listen on {host}:{port} ({exc.strerror}): choose another --port, or --port 0 for free ones"
            ) from exc


def _socket(address: str) -> socket.socket:
    return socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
