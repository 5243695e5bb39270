"""The four ways to a Triton server; imported when first used.

``gRPC | HTTP`` times ``blocking | asyncio``. What is sent and how it is read is in ``_grpc_words.py`` and
``_http_words.py``; the transports hold connections only. All raise :class:`ResnetClientError` only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from resnet_client._transports._errors import translated

if TYPE_CHECKING:
    from resnet_client._config import ClientConfig
    from resnet_client._endpoint import Endpoint
    from resnet_client._requests import Request


class Transport(Protocol):
    """Sends any number of requests at once, one for each thread that calls it."""

    def send(self, request: Request, timeout_s: float) -> Any:
        """Send and read the answer; raises ``DeadlineExceededError`` after ``timeout_s`` at the latest."""

    def close(self) -> None:
        """Close every connection."""

    def leave(self) -> None:
        """Let go of every connection in a child process, where they are its parent's."""


class AsyncTransport(Protocol):
    """The same for asyncio; belongs to the event loop it was first used in."""

    async def send(self, request: Request, timeout_s: float) -> Any:
        """Send and read the answer; raises ``DeadlineExceededError`` after ``timeout_s`` at the latest."""

    async def close(self) -> None:
        """Close every connection."""


def connect(config: ClientConfig, endpoint: Endpoint) -> Transport:
    """A blocking transport to this server; connects with its first request."""
    with translated(str(endpoint), 0):
        if endpoint.is_grpc:
            from resnet_client._transports._grpc import GrpcTransport

            return GrpcTransport(config, endpoint)
        from resnet_client._transports._http import HttpTransport

        return HttpTransport(config, endpoint)


def connect_async(config: ClientConfig, endpoint: Endpoint) -> AsyncTransport:
    """An asyncio transport to this server; connects with its first request."""
    with translated(str(endpoint), 0):
        if endpoint.is_grpc:
            from resnet_client._transports._grpc_aio import AsyncGrpcTransport

            return AsyncGrpcTransport(config, endpoint)
        from resnet_client._transports._http_aio import AsyncHttpTransport

        return AsyncHttpTransport(config, endpoint)
