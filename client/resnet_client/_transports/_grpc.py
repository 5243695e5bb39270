"""gRPC, blocking: one channel for all threads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import tritonclient.grpc as protocol

from resnet_client._transports._errors import translated
from resnet_client._transports._grpc_options import arguments_of, client_arguments
from resnet_client._transports._protocol import read

if TYPE_CHECKING:
    from resnet_client._config import ClientConfig
    from resnet_client._endpoint import Endpoint
    from resnet_client._requests import Request


class GrpcTransport:
    """tritonclient's gRPC client, which is thread-safe."""

    def __init__(self, config: ClientConfig, endpoint: Endpoint) -> None:
        self._config = config
        self._url = str(endpoint)
        self._client = protocol.InferenceServerClient(**client_arguments(config, endpoint))

    def send(self, request: Request, timeout_s: float) -> Any:
        """Send and read the answer."""
        with translated(self._url, timeout_s):
            method, arguments = arguments_of(self._config, request, timeout_s)
            return read(request, getattr(self._client, method)(**arguments, client_timeout=timeout_s))

    def close(self) -> None:
        """Close the channel; requests under way are cancelled."""
        self._client.close()
