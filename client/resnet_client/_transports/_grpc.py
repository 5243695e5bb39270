"""gRPC, blocking: one channel for all threads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import tritonclient.grpc as protocol

from resnet_client._transports._errors import translated
from resnet_client._transports._grpc_options import client_arguments
from resnet_client._transports._protocol import invocation, read

if TYPE_CHECKING:
    from resnet_client._config import ClientConfig
    from resnet_client._requests import Request


class GrpcTransport:
    """tritonclient's gRPC client, which is thread-safe."""

    def __init__(self, config: ClientConfig) -> None:
        self._url = config.url
        self._client = protocol.InferenceServerClient(**client_arguments(config))

    def send(self, request: Request, timeout_s: float) -> Any:
        """Send and read the answer."""
        with translated(self._url, timeout_s):
            method, arguments = invocation(protocol, request, timeout_s)
            if method.startswith("get_"):
                arguments["as_json"] = True
            answer = getattr(self._client, method)(**arguments, client_timeout=timeout_s)
            return read(request, answer)

    def leave_thread(self) -> None:
        """Nothing belongs to a single thread."""

    def close(self) -> None:
        """Close the channel; requests under way are cancelled."""
        self._client.close()
