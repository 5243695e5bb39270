"""Triton's HTTP (KServe's predict protocol, version 2) in words: what is sent for a request, how answers are read.

Tensors travel as bytes behind the JSON (Triton's extension for binary data); connections are made elsewhere,
blocking or not.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

from resnet_client import _tensors
from resnet_client._requests import Answer, Inference
from resnet_client._transports._errors import RefusedError
from resnet_client._transports._protocol import is_closed_to_strangers, microseconds

if TYPE_CHECKING:
    from collections.abc import Mapping

    from resnet_client._config import ClientConfig
    from resnet_client._endpoint import Endpoint
    from resnet_client._requests import Request

_OK = 200
_HEADER_LENGTH = "Inference-Header-Content-Length"
_PATHS = {
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
    "register_system_shared_memory": "/systemsharedmemory/region/{name}/register",
    "unregister_system_shared_memory": "/systemsharedmemory/region/{name}/unregister",
}
_POSTED = ("get_model_repository_index", "register_system_shared_memory", "unregister_system_shared_memory")


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
    base = f"/{endpoint.path}/v2" if endpoint.path else "/v2"
    headers = {"Accept-Encoding": "identity"}
    if endpoint.found_by:
        headers["Host"] = f"{endpoint.found_by}:{endpoint.port}"
    if isinstance(request, Inference):
        path = base + _model_path(request.model, request.model_version) + "/infer"
        words = json.dumps(_inference(request, timeout_s)).encode()
        headers |= {_HEADER_LENGTH: str(len(words)), **request.span.headers}
        return Message("POST", path, headers, request.content(words) if request.region is None else words)
    if config.admin_token is not None and is_closed_to_strangers(request):
        headers["admin-key"] = config.admin_token
    path = base + _path(request.method, request.arguments)
    if request.method in _POSTED:
        body = {name: value for name, value in request.arguments.items() if name != "name"}
        return Message("POST", path, headers, json.dumps(body).encode())
    return Message("GET", path, headers, None)


def answer(request: Request, status: int, headers: Mapping[str, str], content: bytes) -> Any:
    """Read a complete answer: an :class:`Answer`, a dictionary, or a flag.

    Raises:
        RefusedError: the server refuses or fails.
        ValueError, LookupError, TypeError: it is not what a server answers.
    """
    if not isinstance(request, Inference) and request.method.startswith("is_"):
        return status == _OK
    if status != _OK:
        raise RefusedError(_reason(status, content), str(status))
    if isinstance(request, Inference):
        return _answer(request, int(headers.get(_HEADER_LENGTH, len(content))), content)
    return json.loads(content) if content else {}


def _inference(request: Inference, timeout_s: float) -> dict[str, Any]:
    place: dict[str, Any] = {"binary_data_size": request.byte_size}
    if request.region is not None:
        place = {"shared_memory_region": request.region, "shared_memory_byte_size": request.byte_size}
    tensor = {"name": request.input_name, "datatype": request.datatype, "shape": request.tensor.shape}
    wanted = {"binary_data": True} | ({"classification": request.class_count} if request.class_count else {})
    return {
        "inputs": [{**tensor, "parameters": place}],
        "outputs": [{"name": request.output_name, "parameters": wanted}],
        "parameters": {"timeout": microseconds(timeout_s)},
    }


def _answer(request: Inference, end: int, content: bytes) -> Answer:
    words = json.loads(content[:end])
    found = None
    for output in words["outputs"]:
        start, end = end, end + output["parameters"]["binary_data_size"]
        if output["name"] == request.output_name:
            found = _tensors.read(output["datatype"], output["shape"], content[start:end])
    return Answer(found, request.model, words.get("model_version", ""))


def _path(method: str, arguments: Mapping[str, Any]) -> str:
    if "model_name" not in arguments:
        return _PATHS[method].format(**arguments)
    return _model_path(arguments["model_name"], arguments.get("model_version", "")) + _PATHS[method]


def _model_path(model: str, version: str) -> str:
    name = f"/{quote(model, safe='')}" if model else ""
    return f"/models{name}/versions/{version}" if version else f"/models{name}"


def _reason(status: int, content: bytes) -> str:
    try:
        return str(json.loads(content)["error"])
    except (ValueError, TypeError, KeyError):
        return f"it answered {status} with {content[:200].decode(errors='replace')!r}"
