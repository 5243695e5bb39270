"""Triton's gRPC in words: how channels are opened, what is sent for a request, how answers are read.

Messages and service are those that tritonclient generates from Triton's own definitions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import grpc
from google.protobuf.json_format import MessageToDict
from tritonclient.grpc import service_pb2

from resnet_client import _tensors
from resnet_client._requests import Answer, Inference
from resnet_client._transports._protocol import CONNECT_TIMEOUT_S, is_closed_to_strangers, microseconds

if TYPE_CHECKING:
    from resnet_client._config import ClientConfig
    from resnet_client._endpoint import Endpoint
    from resnet_client._requests import Request

_UNLIMITED = -1

_CHANNEL_OPTIONS = [
    # gRPC's default of 4 MB is less than one large photo.
    ("grpc.max_send_message_length", _UNLIMITED),
    ("grpc.max_receive_message_length", _UNLIMITED),
    # After a failure gRPC answers UNAVAILABLE by itself until its next attempt to connect, by default a
    # second later and then ever more; our retries are to find a server that is back.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    # It is also how long an attempt to connect may take, by default 20 s.
    ("grpc.min_reconnect_backoff_ms", int(CONNECT_TIMEOUT_S * 1000)),
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
    "get_system_shared_memory_status": "SystemSharedMemoryStatus",
    "get_trace_settings": "TraceSetting",
    "get_log_settings": "LogSettings",
    "register_system_shared_memory": "SystemSharedMemoryRegister",
    "unregister_system_shared_memory": "SystemSharedMemoryUnregister",
}


class Message(NamedTuple):
    """What is sent.

    Attributes:
        rpc: name of the service's method.
        content: its protobuf message.
        metadata: gRPC's headers.
    """

    rpc: str
    content: Any
    metadata: tuple[tuple[str, str], ...]


def channel(library: Any, config: ClientConfig, endpoint: Endpoint) -> Any:
    """A channel to this server.

    Args:
        library: ``grpc`` or ``grpc.aio``.
        config: whom to trust, and who we are.
        endpoint: where the server is.
    """
    if not endpoint.is_tls:
        return library.insecure_channel(endpoint.target, _CHANNEL_OPTIONS)
    files = (config.ca_certificate, config.client_key, config.client_certificate)
    credentials = grpc.ssl_channel_credentials(*(None if path is None else path.read_bytes() for path in files))
    name = [("grpc.ssl_target_name_override", endpoint.found_by)] if endpoint.found_by else []
    return library.secure_channel(endpoint.target, credentials, [*_CHANNEL_OPTIONS, *name])


def message(config: ClientConfig, request: Request, timeout_s: float) -> Message:
    """Put a request into words."""
    if isinstance(request, Inference):
        return Message("ModelInfer", _inference(request, timeout_s), tuple(request.span.headers.items()))
    rpc = _RPCS[request.method]
    content = getattr(service_pb2, f"{rpc}Request")(
        **{name.removeprefix("model_"): value for name, value in request.arguments.items()}
    )
    has_key = config.admin_token is not None and is_closed_to_strangers(request)
    return Message(rpc, content, (("triton-grpc-protocol-admin-key", str(config.admin_token)),) if has_key else ())


def answer(request: Request, content: Any) -> Any:
    """Read an answer: an :class:`Answer`, a dictionary, or a flag.

    Raises:
        ValueError, LookupError: it is not what a server answers.
    """
    if isinstance(request, Inference):
        return Answer(_output(content, request.output_name), request.model, content.model_version)
    if request.method.startswith("is_"):
        return content.live if request.method == "is_server_live" else content.ready
    found = MessageToDict(content, preserving_proto_field_name=True)
    return found.get("config", {}) if request.method == "get_model_config" else found


def _inference(request: Inference, timeout_s: float) -> Any:
    content = service_pb2.ModelInferRequest(model_name=request.model, model_version=request.model_version)
    content.parameters["timeout"].int64_param = microseconds(timeout_s)
    tensor = content.inputs.add(name=request.input_name, datatype=request.datatype, shape=request.tensor.shape)
    if request.region is None:
        content.raw_input_contents.append(request.content())
    else:
        tensor.parameters["shared_memory_region"].string_param = request.region
        tensor.parameters["shared_memory_byte_size"].int64_param = request.byte_size
    output = content.outputs.add(name=request.output_name)
    if request.class_count:
        output.parameters["classification"].int64_param = request.class_count
    return content


def _output(content: Any, name: str) -> Any:
    for output, raw in zip(content.outputs, content.raw_output_contents, strict=False):
        if output.name == name:
            return _tensors.read(output.datatype, output.shape, raw)
    return None
