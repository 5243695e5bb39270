"""HTTP, asyncio: one session, which belongs to the event loop it was made in.

The session is our own, because tritonclient's would follow a redirection to an unencrypted address, wait for a
connection as long as for an answer, and check a certificate against the address only.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import aiohttp

from resnet_client import _tls
from resnet_client._transports import _http_words
from resnet_client._transports._errors import translated
from resnet_client._transports._protocol import CONNECT_TIMEOUT_S

if TYPE_CHECKING:
    from resnet_client._config import ClientConfig
    from resnet_client._endpoint import Endpoint
    from resnet_client._requests import Request

_UNLIMITED = 0


class AsyncHttpTransport:
    """A session of aiohttp."""

    def __init__(self, config: ClientConfig, endpoint: Endpoint) -> None:
        self._config = config
        self._endpoint = endpoint
        self._url = str(endpoint)
        self._origin = self._url.removesuffix(f"/{endpoint.path}")
        self._options: dict[str, Any] = {"allow_redirects": False}
        if endpoint.is_tls:
            self._options |= {"ssl": _tls.context(config), "server_hostname": endpoint.found_by or None}
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=_UNLIMITED),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S),
        )

    async def send(self, request: Request, timeout_s: float) -> Any:
        """Send and read the answer."""
        with translated(self._url, timeout_s):
            message = _http_words.message(self._config, self._endpoint, request, timeout_s)
            async with (
                asyncio.timeout(timeout_s),
                self._session.request(
                    message.method,
                    self._origin + message.path,
                    data=message.body,
                    headers=message.headers,
                    **self._options,
                ) as response,
            ):
                content = await response.read()
            return _http_words.answer(request, response.status, response.headers, content)

    async def close(self) -> None:
        """Close the session and its connections."""
        await self._session.close()
