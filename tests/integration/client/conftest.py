"""One face for four clients, so that every case runs over gRPC and HTTP, blocking and asyncio."""

import asyncio
import socket
import threading
from contextlib import closing

import pytest
from resnet_client import AsyncClient, Client


class Blocking:
    """`Client` as it is."""

    def __init__(self, url, **options):
        self._client = Client(url, **options)
        self.options = self._client.config

    def __getattr__(self, name):
        return getattr(self._client, name)

    def many(self, images, **options):
        """All outcomes as a list."""
        return list(self._client.classify_many(images, **options))


class Awaited:
    """`AsyncClient`, each call awaited in one event loop."""

    def __init__(self, url, **options):
        self._loop = asyncio.new_event_loop()
        self._client = AsyncClient(url, **options)
        self.options = self._client.config

    def __getattr__(self, name):
        method = getattr(self._client, name)
        return lambda *args, **options: self._loop.run_until_complete(method(*args, **options))

    def many(self, images, **options):
        """All outcomes as a list."""

        async def collect():
            return [outcome async for outcome in self._client.classify_many(images, **options)]

        return self._loop.run_until_complete(collect())

    def close(self):
        """Close the client and its loop."""
        self._loop.run_until_complete(self._client.close())
        self._loop.close()


KINDS = {
    f"{protocol}-{kind.__name__.lower()}": (protocol, kind)
    for protocol in ("grpc", "http")
    for kind in (Blocking, Awaited)
}


@pytest.fixture(params=KINDS)
def connect(request):
    """Make a client of one of the four kinds for a port, or for the server's own URL."""
    protocol, kind = KINDS[request.param]
    clients = []

    def make(where, **options):
        url = f"{protocol}://127.0.0.1:{where}" if isinstance(where, int) else getattr(where, f"{protocol}_url")
        clients.append(kind(url, **options))
        return clients[-1]

    yield make
    for client in clients:
        client.close()


@pytest.fixture
def client(connect, server):
    """A client of each of the four kinds, connected to the real server."""
    return connect(server)


@pytest.fixture
def free_port():
    """A port where nobody listens."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        return listener.getsockname()[1]


@pytest.fixture
def silent_port():
    """A server that accepts connections and never says a word."""
    accepted = []
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:

        def accept():
            try:
                while True:
                    accepted.append(listener.accept()[0])
            except OSError:  # the listener was closed
                return

        thread = threading.Thread(target=accept)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
    for connection in accepted:
        connection.close()
