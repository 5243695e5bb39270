"""gRPC, asyncio: one channel, which belongs to the event loop it was made in."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from tritonclient.grpc.aio import InferenceServerClient

from resnet_client._transports._errors import translated
from resnet_client._transports._grpc_options import arguments_of, client_arguments
from resnet_client._transports._protocol import read

if TYPE_CHECKING:
    from resnet_client._config import ClientConfig
    from resnet_client._endpoint import Endpoint
    from resnet_client._requests import Request


class AsyncGrpcTransport:
    """tritonclient's asyncio gRPC client."""

    def __init__(self, config: ClientConfig, endpoint: Endpoint) -> None:
        self._config = config
        self._url = str(endpoint)
        self._client = InferenceServerClient(**client_arguments(config, endpoint))

    async def send(self, request: Request, timeout_s: float) -> Any:
        """Send and read the answer."""
        with translated(self._url, timeout_s):
            method, arguments = arguments_of(self._config, request, timeout_s)
            async with asyncio.timeout(timeout_s):
                return read(request, await getattr(self._client, method)(**arguments, client_timeout=timeout_s))

    async def close(self) -> None:
        """Close the channel; requests under way are cancelled."""
        await self._client.close()
