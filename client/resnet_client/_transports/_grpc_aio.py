"""gRPC, asyncio: one channel, which belongs to the event loop it was made in."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import tritonclient.grpc as protocol
from tritonclient.grpc.aio import InferenceServerClient

from resnet_client._transports._errors import translated
from resnet_client._transports._grpc_options import client_arguments
from resnet_client._transports._protocol import invocation, read

if TYPE_CHECKING:
    from resnet_client._config import ClientConfig
    from resnet_client._requests import Request


class AsyncGrpcTransport:
    """tritonclient's asyncio gRPC client."""

    def __init__(self, config: ClientConfig) -> None:
        self._url = config.url
        self._client = InferenceServerClient(**client_arguments(config))

    async def send(self, request: Request, timeout_s: float) -> Any:
        """Send and read the answer."""
        with translated(self._url, timeout_s):
            method, arguments = invocation(protocol, request, timeout_s)
            if method.startswith("get_"):
                arguments["as_json"] = True
            call = getattr(self._client, method)(**arguments, client_timeout=timeout_s)
            return read(request, await asyncio.wait_for(call, timeout_s))

    async def close(self) -> None:
        """Close the channel; requests under way are cancelled."""
        await self._client.close()
