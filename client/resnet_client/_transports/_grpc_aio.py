"""gRPC, asyncio: one channel, which belongs to the event loop it was made in."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import grpc.aio
from tritonclient.grpc.service_pb2_grpc import GRPCInferenceServiceStub

from resnet_client._transports import _grpc_words
from resnet_client._transports._errors import translated

if TYPE_CHECKING:
    from resnet_client._config import ClientConfig
    from resnet_client._endpoint import Endpoint
    from resnet_client._requests import Request


class AsyncGrpcTransport:
    """A channel of gRPC's asyncio side."""

    def __init__(self, config: ClientConfig, endpoint: Endpoint) -> None:
        self._config = config
        self._url = str(endpoint)
        self._channel = _grpc_words.channel(grpc.aio, config, endpoint)
        self._service = GRPCInferenceServiceStub(self._channel)

    async def send(self, request: Request, timeout_s: float) -> Any:
        """Send and read the answer."""
        with translated(self._url, timeout_s):
            rpc, content, metadata = _grpc_words.message(self._config, request, timeout_s)
            async with asyncio.timeout(timeout_s):
                found = await getattr(self._service, rpc)(content, timeout=timeout_s, metadata=metadata)
            return _grpc_words.answer(request, found)

    async def close(self) -> None:
        """Close the channel; requests under way are cancelled."""
        await self._channel.close()
