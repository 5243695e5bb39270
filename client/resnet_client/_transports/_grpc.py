"""gRPC, blocking: one channel for all threads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc
from tritonclient.grpc.service_pb2_grpc import GRPCInferenceServiceStub

from resnet_client import _forks
from resnet_client._transports import _grpc_words
from resnet_client._transports._errors import translated

if TYPE_CHECKING:
    from resnet_client._config import ClientConfig
    from resnet_client._endpoint import Endpoint
    from resnet_client._requests import Request


class GrpcTransport:
    """A channel, which is thread-safe."""

    def __init__(self, config: ClientConfig, endpoint: Endpoint) -> None:
        self._config = config
        self._url = str(endpoint)
        self._channel = _grpc_words.channel(grpc, config, endpoint)
        self._service = GRPCInferenceServiceStub(self._channel)

    def send(self, request: Request, timeout_s: float) -> Any:
        """Send and read the answer."""
        with translated(self._url, timeout_s):
            rpc, content, metadata = _grpc_words.message(self._config, request, timeout_s)
            return _grpc_words.answer(
                request, getattr(self._service, rpc)(content, timeout=timeout_s, metadata=metadata)
            )

    def close(self) -> None:
        """Close the channel; requests under way are cancelled."""
        self._channel.close()

    def leave(self) -> None:
        """In a child process: keep the parent's channel untouched; closing it would shut the parent's connection."""
        _forks.leave(self._channel)
