"""TCP ports, free and taken."""

from __future__ import annotations

import socket

import pytest
from resnet_serve import ServerError, ports


def test_free_ports_differ_and_are_free() -> None:
    """Three ports to listen on at once."""
    found = ports.free_ports("127.0.0.1", 3)
    assert len(set(found)) == 3
    for port in found:
        ports.refuse_taken("127.0.0.1", port)


def test_refuse_taken_names_address_and_remedy() -> None:
    """And which option helps."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ServerError, match=f"cannot listen on 127.0.0.1:{port} .*--port 0"):
            ports.refuse_taken("127.0.0.1", port)
