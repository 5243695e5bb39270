"""Ways into a server: plain HTTP for all of them, gRPC and the project's own client for Triton."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator, Sequence

import grpc
from resnet_client import AsyncClient

from benchmarks.closed_loop import Send

_OK = b"200"


@dataclasses.dataclass(frozen=True)
class _ReadyMade:
    """Requests that were made before, one connection per caller.

    Attributes:
        port: on the loopback address.
        requests: each photo's.
    """

    port: int
    requests: Sequence[bytes]

    @property
    def photos(self) -> int:
        """How many there are."""
        return len(self.requests)


class HttpDoor(_ReadyMade):
    """Complete requests over HTTP/1.1: head and body."""

    @contextlib.asynccontextmanager
    async def caller(self) -> AsyncIterator[Send]:
        """Open a connection."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)

        async def send(number: int) -> bytes:
            writer.write(self.requests[number])
            return await _answer(reader)

        try:
            yield send
        finally:
            writer.close()


async def _answer(reader: asyncio.StreamReader) -> bytes:
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    status = head.split(b" ", 2)[1]
    _, found, rest = head.partition(b"\r\ncontent-length:")
    if not found:
        raise OSError(f"an answer without a length: {head!r}")
    body = await reader.readexactly(int(rest.partition(b"\r\n")[0]))
    if status != _OK:
        raise OSError(f"the server answered {status.decode()}: {body[:300]!r}")
    return body


class GrpcDoor(_ReadyMade):
    """Serialised ``ModelInferRequest`` over gRPC."""

    @contextlib.asynccontextmanager
    async def caller(self) -> AsyncIterator[Send]:
        """Open a channel."""
        # Without a pool of its own, channels to one address share a connection.
        options = [("grpc.use_local_subchannel_pool", 1)]
        async with grpc.aio.insecure_channel(f"127.0.0.1:{self.port}", options) as channel:
            infer = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")

            async def send(number: int) -> bytes:
                try:
                    return bytes(await infer(self.requests[number]))
                except grpc.RpcError as exc:
                    raise OSError(f"the server refused: {exc}") from exc

            yield send


@dataclasses.dataclass(frozen=True)
class ClientDoor:
    """The project's client, as a program would call it.

    Attributes:
        url: of the server.
        model: the model asked.
        jpegs: the photos.
    """

    url: str
    model: str
    jpegs: Sequence[bytes]

    @property
    def photos(self) -> int:
        """How many there are."""
        return len(self.jpegs)

    @contextlib.asynccontextmanager
    async def caller(self) -> AsyncIterator[Send]:
        """Open a client."""
        async with AsyncClient(self.url, model=self.model) as client:

            async def send(number: int) -> bytes:
                result = await client.classify(self.jpegs[number])
                return str(result.top.index).encode()

            yield send
