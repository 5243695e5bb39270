"""Triton's gRPC: encode requests, decode responses, and the two transports.

tritonclient generates messages and service from Triton's definitions.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
from google.protobuf.json_format import MessageToDict
from tritonclient.grpc import service_pb2
from tritonclient.grpc.service_pb2_grpc import GRPCInferenceServiceStub

from resnet_client import forks, tensors
from resnet_client.error_mapping import mapped
from resnet_client.requests import CONNECT_TIMEOUT_S, LARGEST_RESPONSE, Inference, microseconds
from resnet_client.responses import Answer

if TYPE_CHECKING:
    from resnet_client.config import ClientConfig
    from resnet_client.endpoints import Endpoint
    from resnet_client.requests import Request

_UNLIMITED = -1

_CHANNEL_OPTIONS = [
    # gRPC's default of 4 MB is less than one large image.
    ("grpc.max_send_message_length", _UNLIMITED),
    ("grpc.max_receive_message_length", LARGEST_RESPONSE),
    # After a failure gRPC itself returns UNAVAILABLE until its next attempt to connect, by default after one second
    # and then longer; retries of the client must reach a restarted server.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    # This is also the timeout of an attempt to connect, by default 20 s.
    ("grpc.min_reconnect_backoff_ms", int(CONNECT_TIMEOUT_S * 1000)),
    # gRPC would use http_proxy even for 127.0.0.1. No transport uses a proxy of the environment.
    ("grpc.enable_http_proxy", 0),
    # Clients of one process would otherwise share one connection.
    ("grpc.use_local_subchannel_pool", 1),
]
_RPCS = {
    "is_server_live": "ServerLive",
    "is_server_ready": "ServerReady",
    "is_model_ready": "ModelReady",
    "get_server_metadata": "ServerMetadata",
    "get_model_metadata": "ModelMetadata",
    "get_model_config": "ModelConfig",
    "get_inference_statistics": "ModelStatistics",
    "get_model_repository_index": "RepositoryIndex",
}


class GrpcTransport:
    """Blocking: one channel for all threads."""

    def __init__(self, config: ClientConfig, endpoint: Endpoint) -> None:
        self._config = config
        self._url = str(endpoint)
        self._channel = open_channel(grpc, config, endpoint)
        self._service = GRPCInferenceServiceStub(self._channel)

    def send(self, request: Request, timeout_s: float) -> Any:
        """Send and read the response."""
        with mapped(self._url, timeout_s):
            rpc, content, metadata = _message(self._config, request, timeout_s)
            response = getattr(self._service, rpc)(content, timeout=timeout_s, metadata=metadata)
            return _read(request, response)

    def close(self) -> None:
        """Close the channel; requests in flight are cancelled."""
        self._channel.close()

    def abandon(self) -> None:
        """Leave the parent's channel open in a child process; closing it would close the parent's connection."""
        forks.keep(self._channel)


class AsyncGrpcTransport:
    """Asyncio: one channel, which belongs to the event loop it was made in."""

    def __init__(self, config: ClientConfig, endpoint: Endpoint) -> None:
        self._config = config
        self._url = str(endpoint)
        self._channel = open_channel(grpc.aio, config, endpoint)
        self._service = GRPCInferenceServiceStub(self._channel)

    async def send(self, request: Request, timeout_s: float) -> Any:
        """Send and read the response."""
        with mapped(self._url, timeout_s):
            rpc, content, metadata = _message(self._config, request, timeout_s)
            async with asyncio.timeout(timeout_s):
                response = await getattr(self._service, rpc)(content, timeout=timeout_s, metadata=metadata)
            return _read(request, response)

    async def close(self) -> None:
        """Close the channel; requests in flight are cancelled."""
        await self._channel.close()


def open_channel(library: Any, config: ClientConfig, endpoint: Endpoint) -> Any:
    """Open a channel with ``grpc`` or ``grpc.aio``."""
    if not endpoint.is_tls:
        return library.insecure_channel(endpoint.target, _CHANNEL_OPTIONS)
    files = (config.ca_certificate, config.client_key, config.client_certificate)
    credentials = grpc.ssl_channel_credentials(*(None if path is None else path.read_bytes() for path in files))
    name = [("grpc.ssl_target_name_override", endpoint.found_by)] if endpoint.found_by else []
    return library.secure_channel(endpoint.target, credentials, [*_CHANNEL_OPTIONS, *name])


def _message(config: ClientConfig, request: Request, timeout_s: float) -> tuple[str, Any, tuple[tuple[str, str], ...]]:
    """Encode a request: the service's method, the protobuf message, and the metadata."""
    if isinstance(request, Inference):
        return "ModelInfer", _infer_message(request, timeout_s), tuple(request.span.headers.items())
    rpc = _RPCS[request.method]
    arguments = {name.removeprefix("model_"): value for name, value in request.arguments.items()}
    content = getattr(service_pb2, f"{rpc}Request")(**arguments)
    if config.admin_token is None or not request.is_restricted:
        return rpc, content, ()
    return rpc, content, (("triton-grpc-protocol-admin-key", config.admin_token),)


def _infer_message(request: Inference, timeout_s: float) -> Any:
    content = service_pb2.ModelInferRequest(model_name=request.model, model_version=request.model_version)
    content.parameters["timeout"].int64_param = microseconds(timeout_s)
    content.inputs.add(name=request.input_name, datatype=request.datatype, shape=request.tensor.shape)
    content.raw_input_contents.append(b"".join(tensors.parts(request.tensor)))
    output = content.outputs.add(name=request.output_name)
    if request.class_count:
        output.parameters["classification"].int64_param = request.class_count
    return content


def _read(request: Request, response: Any) -> Any:
    """Decode a response: an :class:`Answer`, a dictionary, or a flag.

    Raises:
        ValueError, LookupError: the response is not valid.
    """
    if isinstance(request, Inference):
        return Answer(_output(response, request.output_name), request.model, response.model_version)
    if request.method.startswith("is_"):
        return response.live if request.method == "is_server_live" else response.ready
    found = MessageToDict(response, preserving_proto_field_name=True)
    return found.get("config", {}) if request.method == "get_model_config" else found


def _output(response: Any, name: str) -> Any:
    for output, raw in zip(response.outputs, response.raw_output_contents, strict=False):
        if output.name == name:
            return tensors.read(output.datatype, output.shape, raw)
    return None
