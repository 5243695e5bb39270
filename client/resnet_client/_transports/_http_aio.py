"""HTTP, asyncio: one session, which belongs to the event loop it was made in."""

from __future__ import annotations

import asyncio
import ssl
from typing import TYPE_CHECKING, Any

import tritonclient.http as protocol
from tritonclient.http.aio import InferenceServerClient

from resnet_client._transports._errors import translated
from resnet_client._transports._protocol import invocation, read

if TYPE_CHECKING:
    from resnet_client._config import ClientConfig
    from resnet_client._requests import Request

_UNLIMITED = 0


class AsyncHttpTransport:
    """tritonclient's asyncio HTTP client."""

    def __init__(self, config: ClientConfig) -> None:
        self._url = config.url
        endpoint = config.endpoint
        self._client = InferenceServerClient(
            endpoint.target,
            conn_limit=_UNLIMITED,
            conn_timeout=None,  # each request has its own time-out
            ssl=endpoint.is_tls,
            ssl_context=ssl.create_default_context(cafile=config.ca_certificate) if endpoint.is_tls else True,
        )

    async def send(self, request: Request, timeout_s: float) -> Any:
        """Send and read the answer."""
        with translated(self._url, timeout_s):
            method, arguments = invocation(protocol, request, timeout_s)
            answer = await asyncio.wait_for(getattr(self._client, method)(**arguments), timeout_s)
            return read(request, answer)

    async def close(self) -> None:
        """Close the session and its connections."""
        await self._client.close()
