"""The four ways to a Triton server, each a thin layer over tritonclient; imported when first used.

``gRPC | HTTP`` times ``blocking | asyncio``. All raise :class:`ResnetClientError` only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from resnet_client._config import ClientConfig
    from resnet_client._requests import Request


class Transport(Protocol):
    """Sends one request at a time for each thread that calls it."""

    def send(self, request: Request, timeout_s: float) -> Any:
        """Send and read the answer; raises ``DeadlineExceededError`` after ``timeout_s`` at the latest."""

    def leave_thread(self) -> None:
        """Give back what this thread holds; its owner calls it before the thread ends."""

    def close(self) -> None:
        """Close every connection."""


class AsyncTransport(Protocol):
    """The same for asyncio; belongs to the event loop it was first used in."""

    async def send(self, request: Request, timeout_s: float) -> Any:
        """Send and read the answer; raises ``DeadlineExceededError`` after ``timeout_s`` at the latest."""

    async def close(self) -> None:
        """Close every connection."""


def connect(config: ClientConfig) -> Transport:
    """A blocking transport for the URL's scheme; connects with its first request."""
    if config.endpoint.is_grpc:
        from resnet_client._transports._grpc import GrpcTransport

        return GrpcTransport(config)
    from resnet_client._transports._http import HttpTransport

    return HttpTransport(config)


def connect_async(config: ClientConfig) -> AsyncTransport:
    """An asyncio transport for the URL's scheme; connects with its first request."""
    if config.endpoint.is_grpc:
        from resnet_client._transports._grpc_aio import AsyncGrpcTransport

        return AsyncGrpcTransport(config)
    from resnet_client._transports._http_aio import AsyncHttpTransport

    return AsyncHttpTransport(config)
