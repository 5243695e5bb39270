"""Triton's HTTP (KServe's predict protocol, version 2) in words: what is sent for a request, how answers are read.

Tensors are written and read by tritonclient; connections are made elsewhere, blocking or not.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

import tritonclient.http as protocol

from resnet_client._requests import Inference
from resnet_client._transports._protocol import invocation, is_closed_to_strangers, read

if TYPE_CHECKING:
    from collections.abc import Mapping

    from resnet_client._config import ClientConfig
    from resnet_client._endpoint import Endpoint
    from resnet_client._requests import Request

_OK = 200
_HEADER_LENGTH = "Inference-Header-Content-Length"
_PATHS = {
    "infer": "/infer",
    "is_server_live": "/health/live",
    "is_server_ready": "/health/ready",
    "is_model_ready": "/ready",
    "get_server_metadata": "",
    "get_model_metadata": "",
    "get_model_config": "/config",
    "get_inference_statistics": "/stats",
    "get_model_repository_index": "/repository/index",
    "get_system_shared_memory_status": "/systemsharedmemory/status",
    "get_trace_settings": "/trace/setting",
    "get_log_settings": "/logging",
}


class Message(NamedTuple):
    """What is sent.

    Attributes:
        method: ``GET`` or ``POST``.
        path: with the base path of the endpoint.
        headers: besides those that every HTTP library adds.
        body: None for ``GET``.
    """

    method: str
    path: str
    headers: dict[str, str]
    body: bytes | None


def message(config: ClientConfig, endpoint: Endpoint, request: Request, timeout_s: float) -> Message:
    """Put a request into words."""
    method, arguments = invocation(protocol, request, timeout_s)
    base = f"/{endpoint.path}/v2" if endpoint.path else "/v2"
    headers = {"Accept-Encoding": "identity"}
    if endpoint.found_by:
        headers["Host"] = f"{endpoint.found_by}:{endpoint.port}"
    if config.admin_token is not None and is_closed_to_strangers(request):
        headers["admin-key"] = config.admin_token
    if method == "get_model_repository_index":  # the one question that is posted
        return Message("POST", base + _path(method, arguments), headers, b"{}")
    if not isinstance(request, Inference):
        return Message("GET", base + _path(method, arguments), headers, None)
    body, length = protocol.InferenceServerClient.generate_request_body(
        arguments["inputs"], outputs=arguments["outputs"], timeout=arguments["timeout"]
    )
    headers[_HEADER_LENGTH] = str(length)
    return Message("POST", base + _path(method, arguments), headers, body)


def answer(request: Request, status: int, headers: Mapping[str, str], content: bytes) -> Any:
    """Read a complete answer.

    Raises:
        InferenceServerException: the server refuses or fails.
        ValueError: it is not what a server answers.
    """
    if not isinstance(request, Inference) and request.method.startswith("is_"):
        return status == _OK
    if status != _OK:
        raise protocol.InferenceServerException(_reason(status, content), status=str(status))
    if not isinstance(request, Inference):
        return read(request, json.loads(content))
    length = headers.get(_HEADER_LENGTH)
    result = protocol.InferenceServerClient.parse_response_body(
        content, header_length=None if length is None else int(length)
    )
    return read(request, result)


def _path(method: str, arguments: Mapping[str, Any]) -> str:
    if "model_name" not in arguments:
        return _PATHS[method]
    model, version = arguments["model_name"], arguments.get("model_version", "")
    name = f"/{quote(model, safe='')}" if model else ""
    return f"/models{name}/versions/{version}{_PATHS[method]}" if version else f"/models{name}{_PATHS[method]}"


def _reason(status: int, content: bytes) -> str:
    try:
        return str(json.loads(content)["error"])
    except (ValueError, TypeError, KeyError):
        return f"it answered {status} with {content[:200].decode(errors='replace')!r}"
