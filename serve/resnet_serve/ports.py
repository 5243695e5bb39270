"""Finds free TCP ports of an IPv4 address, and checks whether a port is taken or accepts connections."""

from __future__ import annotations

import contextlib
import socket

from resnet_serve.config import LOOPBACK, ServerError


def reachable(host: str) -> str:
    """Return the address that this machine connects to for a server that listens on ``host``."""
    return LOOPBACK if host == "0.0.0.0" else host  # noqa: S104  # comparison


def accepts(host: str, port: int, *, timeout_s: float) -> bool:
    """Return whether a connection to this port is accepted."""
    try:
        socket.create_connection((host, port), timeout_s).close()
    except OSError:
        return False
    return True


def free_ports(host: str, count: int) -> list[int]:
    """Return free ports. Another process may take one before the server does, so the caller has to retry."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for candidate in sockets:
            try:
                candidate.bind((host, 0))
            except OSError as exc:
                raise ServerError(f"cannot listen on {host} ({exc.strerror}): choose another --host") from exc
        return [candidate.getsockname()[1] for candidate in sockets]


def refuse_taken(host: str, port: int) -> None:
    """Check that a port can be listened on.

    Raises:
        ServerError: it is taken, or the address is not one of this machine's.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OverflowError as exc:
            raise ServerError(f"invalid port {port}: the highest is 65535") from exc
        except OSError as exc:
            raise ServerError(
                f"cannot listen on {host}:{port} ({exc.strerror}): choose another --port, or --port 0 for free ones"
            ) from exc
