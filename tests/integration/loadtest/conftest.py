"""What the tests of the load test on the real server share."""

import socket
from contextlib import closing

import pytest


@pytest.fixture
def free_port():
    """A port without a listener."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        return listener.getsockname()[1]
