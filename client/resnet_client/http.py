"""Triton's HTTP (KServe's predict protocol, version 2): encode requests, decode responses, and the two transports.

Tensors are sent as bytes after the JSON (Triton's binary data extension).
"""

from __future__ import annotations

import asyncio
import http.client
import json
import threading
import time
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

from resnet_client import bounded_socket, tensors, tls
from resnet_client.error_mapping import RefusedError, mapped
from resnet_client.errors import ClosedError
from resnet_client.requests import CONNECT_TIMEOUT_S, LARGEST_RESPONSE, Inference, microseconds
from resnet_client.responses import Answer

if TYPE_CHECKING:
    import socket
    from collections.abc import Mapping

    from resnet_client.config import ClientConfig
    from resnet_client.endpoints import Endpoint
    from resnet_client.requests import Request

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
}
_POSTED = ("get_model_repository_index",)
_UNLIMITED = 0


class HttpTransport:
    """Blocking: connections of ``http.client`` for all threads, each used for one request at a time."""

    def __init__(self, config: ClientConfig, endpoint: Endpoint) -> None:
        self._config = config
        self._endpoint = endpoint
        self._url = str(endpoint)
        self._tls = tls.context(config) if endpoint.is_tls else None
        self._lock = threading.Lock()
        self._idle: list[_Connection] = []
        self._is_closed = False

    def send(self, request: Request, timeout_s: float) -> Any:
        """Send and read the response."""
        with mapped(self._url, timeout_s):
            message = _message(self._config, self._endpoint, request, timeout_s)
            return _read(request, *self._exchange(message, timeout_s))

    def close(self) -> None:
        """Close all idle connections; a busy one is closed after its request."""
        with self._lock:
            self._is_closed = True
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def abandon(self) -> None:
        """Close a child process's copies of the idle connections; the parent's stay open."""
        for connection in self._idle:
            connection.close()

    def _exchange(self, message: _Message, timeout_s: float) -> tuple[int, Any, bytes]:
        end_s = time.monotonic() + timeout_s
        with self._lock:
            if self._is_closed:
                raise ClosedError("the client was closed")
            connection = self._idle.pop() if self._idle else None
        if connection is not None:
            try:
                return self._use(connection, message, end_s)
            except TimeoutError:
                raise
            except OSError:
                pass  # the server closed the idle connection, or stopped; a new connection shows which
        connected = bounded_socket.connect(self._endpoint, self._tls, end_s)
        return self._use(_Connection(self._endpoint, connected), message, end_s)

    def _use(self, connection: _Connection, message: _Message, end_s: float) -> tuple[int, Any, bytes]:
        try:
            found = connection.exchange(message, end_s)
        except BaseException:
            connection.close()  # it may have received part of a response
            raise
        with self._lock:
            is_reusable = connection.sock is not None and not self._is_closed
            if is_reusable:
                self._idle.append(connection)
        if not is_reusable:
            connection.close()
        return found


class AsyncHttpTransport:
    """Asyncio: a session of aiohttp, which belongs to the event loop it was made in."""

    def __init__(self, config: ClientConfig, endpoint: Endpoint) -> None:
        import aiohttp  # the blocking client does not need it

        self._config = config
        self._endpoint = endpoint
        self._url = str(endpoint)
        self._origin = self._url.removesuffix(f"/{endpoint.path}")
        self._options: dict[str, Any] = {"allow_redirects": False}  # a redirect may point to an unencrypted URL
        if endpoint.is_tls:
            self._options |= {"ssl": tls.context(config), "server_hostname": endpoint.found_by or None}
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=_UNLIMITED),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S),
        )

    async def send(self, request: Request, timeout_s: float) -> Any:
        """Send and read the response."""
        with mapped(self._url, timeout_s):
            method, path, headers, body = _message(self._config, self._endpoint, request, timeout_s)
            async with (
                asyncio.timeout(timeout_s),
                self._session.request(
                    method, self._origin + path, data=body, headers=headers, **self._options
                ) as response,
            ):
                content = bytearray()
                async for chunk in response.content.iter_any():
                    content += chunk
                    _check_size(content)
            return _read(request, response.status, response.headers, bytes(content))

    async def close(self) -> None:
        """Close the session and its connections."""
        await self._session.close()


class _Connection(http.client.HTTPConnection):
    """One connection, used for one request at a time."""

    def __init__(self, endpoint: Endpoint, connected: socket.socket) -> None:
        super().__init__(endpoint.host, endpoint.port)
        self.sock: Any = connected
        self.auto_open = 0  # http.client must not reconnect

    def exchange(self, message: _Message, end_s: float) -> tuple[int, Any, bytes]:
        """Send and read before ``end_s``: status, headers, content."""
        self.sock.end_s = end_s
        self.request(message.method, message.path, message.body, message.headers)
        with self.getresponse() as response:
            content = response.read(LARGEST_RESPONSE + 1)
            _check_size(content)
            return response.status, response.headers, content


def _check_size(content: bytes | bytearray) -> None:
    if len(content) > LARGEST_RESPONSE:
        raise ValueError(f"the response has more than {LARGEST_RESPONSE >> 20} MiB")


class _Message(NamedTuple):
    """A request as sent; the path includes the endpoint's base path, the body is None for ``GET``."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes | None


def _message(config: ClientConfig, endpoint: Endpoint, request: Request, timeout_s: float) -> _Message:
    """Encode a request."""
    base = f"/{endpoint.path}/v2" if endpoint.path else "/v2"
    headers = {"Accept-Encoding": "identity"}
    if endpoint.found_by:
        headers["Host"] = f"{endpoint.found_by}:{endpoint.port}"
    if isinstance(request, Inference):
        path = base + _model_path(request.model, request.model_version) + "/infer"
        parts = tensors.parts(request.tensor)
        encoded = json.dumps(_infer_json(request, sum(map(len, parts)), timeout_s)).encode()
        headers |= {_HEADER_LENGTH: str(len(encoded)), **request.span.headers}
        return _Message("POST", path, headers, b"".join((encoded, *parts)))
    # The token must not cross a network unencrypted.
    is_private = endpoint.is_tls or endpoint.is_loopback
    if config.admin_token is not None and request.is_restricted and is_private:
        headers["admin-key"] = config.admin_token
    path = base + _path(request.method, request.arguments)
    if request.method in _POSTED:
        return _Message("POST", path, headers, json.dumps(dict(request.arguments)).encode())
    return _Message("GET", path, headers, None)


def _read(request: Request, status: int, headers: Mapping[str, str], content: bytes) -> Any:
    """Decode a complete response: an :class:`Answer`, a dictionary, or a flag.

    Raises:
        RefusedError: the server returns an error.
        ValueError, LookupError, TypeError: the response is not valid.
    """
    if not isinstance(request, Inference) and request.method.startswith("is_"):
        return status == _OK
    if status != _OK:
        raise RefusedError(_reason(status, content), str(status))
    if isinstance(request, Inference):
        return _answer(request, int(headers.get(_HEADER_LENGTH, len(content))), content)
    return json.loads(content) if content else {}


def _infer_json(request: Inference, byte_size: int, timeout_s: float) -> dict[str, Any]:
    binary = {"binary_data_size": byte_size}
    tensor = {"name": request.input_name, "datatype": request.datatype, "shape": request.tensor.shape}
    wanted = {"binary_data": True} | ({"classification": request.class_count} if request.class_count else {})
    return {
        "inputs": [{**tensor, "parameters": binary}],
        "outputs": [{"name": request.output_name, "parameters": wanted}],
        "parameters": {"timeout": microseconds(timeout_s)},
    }


def _answer(request: Inference, end: int, content: bytes) -> Answer:
    header = json.loads(content[:end])
    found = None
    for output in header["outputs"]:
        start, end = end, end + output["parameters"]["binary_data_size"]
        if output["name"] == request.output_name:
            found = tensors.read(output["datatype"], output["shape"], content[start:end])
    return Answer(found, request.model, header.get("model_version", ""))


def _path(method: str, arguments: Mapping[str, Any]) -> str:
    if "model_name" not in arguments:
        return _PATHS[method]
    return _model_path(arguments["model_name"], arguments.get("model_version", "")) + _PATHS[method]


def _model_path(model: str, version: str) -> str:
    name = f"/{quote(model, safe='')}" if model else ""
    return f"/models{name}/versions/{version}" if version else f"/models{name}"


def _reason(status: int, content: bytes) -> str:
    try:
        return str(json.loads(content)["error"])
    except (ValueError, TypeError, KeyError):
        return f"it returned status {status} with {content[:200].decode(errors='replace')!r}"
