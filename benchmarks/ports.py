"""Ports that are free."""

from __future__ import annotations

import contextlib
import socket

_ATTEMPTS = 100


def free_port(consecutive: int = 1) -> int:
    """The first of some adjacent ports of the loopback address on which nobody listens.

    Raises:
        OSError: none were found.
    """
    for _ in range(_ATTEMPTS):
        with contextlib.suppress(OSError, OverflowError), contextlib.ExitStack() as stack:
            first = 0
            for offset in range(consecutive):
                probe = stack.enter_context(socket.socket())
                probe.bind(("127.0.0.1", first + offset if first else 0))
                first = first or probe.getsockname()[1]
            return first
    raise OSError(f"no {consecutive} adjacent ports are free")
