"""One face for four clients, so that every case runs over gRPC and HTTP, blocking and asyncio."""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor

from resnet_client import AsyncClient, Client, ResnetClientError


async def collect(outcomes):
    return [outcome async for outcome in outcomes]


class Blocking:
    """`Client` as it is."""

    def __init__(self, url, **options):
        self._client = Client(url, **options)
        self.options = self._client.config

    def __getattr__(self, name):
        return getattr(self._client, name)

    def many(self, images, **options):
        return list(self._client.classify_many(images, **options))

    def together(self, calls):
        """Make several calls at once; returns what each gave or raised, and how long it took in seconds."""

        def timed(call):
            started_s = time.monotonic()
            try:
                found = call(self)
            except ResnetClientError as exc:
                found = exc
            return found, time.monotonic() - started_s

        with ThreadPoolExecutor(len(calls)) as pool:
            return list(pool.map(timed, calls))


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
        return self._loop.run_until_complete(collect(self._client.classify_many(images, **options)))

    def together(self, calls):
        """Make several calls at once; returns what each gave or raised, and how long it took in seconds."""

        async def timed(call):
            started_s = time.monotonic()
            try:
                found = await call(self._client)
            except ResnetClientError as exc:
                found = exc
            return found, time.monotonic() - started_s

        async def gathered():
            return await asyncio.gather(*map(timed, calls))

        return self._loop.run_until_complete(gathered())

    def close(self):
        self._loop.run_until_complete(self._client.close())
        self._loop.close()


KINDS = {
    f"{protocol}-{kind.__name__.lower()}": (protocol, kind)
    for protocol in ("grpc", "http")
    for kind in (Blocking, Awaited)
}
