"""The gateway's endpoints: one image in, JSON out; all requests share one client."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
from collections.abc import AsyncIterator, Iterator

from resnet_client import (
    AsyncClient,
    ClientConfig,
    DeadlineExceededError,
    ImageError,
    ModelNotFoundError,
    OverloadedError,
    ResnetClientError,
    UnavailableError,
)
from resnet_client.printing import printable
from starlette.applications import Starlette
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from resnet_serve.gateway import openapi
from resnet_serve.gateway.request_checks import Access, AccessMiddleware, error

LOGGER = logging.getLogger(__name__)

# `curl --data-binary` sends the last one. Browsers send it without a preflight, but always with an Origin header.
_RAW_TYPES = ("", "application/octet-stream", "application/x-www-form-urlencoded")
_FORM_TYPE = "multipart/form-data"
_FIELD = "image"
_MAX_TOP_K = 1000
_MAX_RESERVED_BYTES = 128 * 2**20
_RETRY = {"Retry-After": "1"}
_BUSY = "too many images at once; retry later"

# The first matching class is used. The client's own messages are only logged, because they name addresses and models.
_SERVER_ERRORS: tuple[tuple[type[ResnetClientError], int, str], ...] = (
    (OverloadedError, 429, _BUSY),
    (DeadlineExceededError, 504, "the inference server did not answer in time"),
    (UnavailableError, 503, "the inference server cannot be reached"),
    (ModelNotFoundError, 503, "the model is not ready"),
    (ResnetClientError, 502, "the inference server failed"),
)


class Gateway:
    """The endpoints, and the number and size of the requests in flight.

    Args:
        config: of the client; its ``timeout_s`` limits the time of a request.
        access: who may send requests.
        max_body_bytes: of one request. All requests in flight may have 128 MiB together.
        max_in_flight: requests from their first byte to the response; further ones are refused with 429.
    """

    def __init__(self, config: ClientConfig, access: Access, *, max_body_bytes: int, max_in_flight: int) -> None:
        self._config, self._access = config, access
        self._max_body_bytes, self._max_in_flight = max_body_bytes, max_in_flight
        self._in_flight = self._reserved_bytes = 0
        self._client: AsyncClient

    def app(self) -> Starlette:
        """Return the ASGI application."""
        return Starlette(
            routes=[
                Route("/v1/classify", self._classify, methods=["POST"]),
                Route("/v1/embed", self._embed, methods=["POST"]),
                Route("/healthz", self._healthz),
                Route("/readyz", self._readyz),
                Route("/openapi.json", _openapi),
                Route("/docs", _docs),
            ],
            middleware=[
                Middleware(AccessMiddleware, access=self._access),
                Middleware(
                    CORSMiddleware,
                    allow_origins=self._access.origins,
                    allow_methods=["POST"],
                    allow_headers=["authorization", "content-type", "x-api-key"],
                ),
            ],
            exception_handlers={
                HTTPException: _refused,
                ResnetClientError: _failed,
                ClientDisconnect: _disconnected,
                Exception: _crashed,
            },
            lifespan=self._lifespan,
        )

    @contextlib.asynccontextmanager
    async def _lifespan(self, _app: Starlette) -> AsyncIterator[None]:
        async with AsyncClient(**dataclasses.asdict(self._config)) as self._client:
            yield

    async def _classify(self, request: Request) -> Response:
        top_k = _top_k(request)
        async with self._image(request) as image:
            found = (await self._client.classify(image, top_k=top_k)).to_dict()
        for prediction in found["predictions"]:
            prediction["label"] = printable(prediction["label"])
        return JSONResponse(found)

    async def _embed(self, request: Request) -> Response:
        async with self._image(request) as image:
            features = await self._client.embed(image)
        return JSONResponse({"model": self._config.model, "features": features.tolist()})

    async def _healthz(self, _request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def _readyz(self, _request: Request) -> Response:
        with self._reserve(0):
            health = await self._client.health()
        # Overload counts as ready: without the overloaded servers, the others would be overloaded, too.
        if health.ok or isinstance(health.error, OverloadedError):
            return JSONResponse({"status": "ready"})
        return error(503, "the inference server is not ready", _RETRY)

    @contextlib.asynccontextmanager
    async def _image(self, request: Request) -> AsyncIterator[bytes]:
        """Check the request, read its image, and count it as in flight."""
        headers = request.headers
        if not self._access.has_key(headers):
            raise HTTPException(401, "an API key is needed: Authorization: Bearer KEY", {"WWW-Authenticate": "Bearer"})
        if headers.get("content-encoding", "identity") != "identity":
            raise HTTPException(415, "compressed bodies are not accepted; send the image file as it is")
        content_type = headers.get("content-type", "").partition(";")[0].strip().lower()
        is_form = content_type == _FORM_TYPE
        if not (is_form or content_type in _RAW_TYPES or content_type.startswith("image/")):
            raise HTTPException(415, f"send the image file as image/*, {_RAW_TYPES[1]}, or {_FORM_TYPE}")
        length, max_bytes = int(headers.get("content-length", 0)), self._max_body_bytes
        if length > max_bytes:
            raise HTTPException(413, f"the body is larger than {max_bytes} bytes")
        with self._reserve(length):
            image = await _of_form(request, max_bytes) if is_form else await request.body()
            if not image:
                raise HTTPException(400, "the image is missing: the body is empty")
            yield image

    @contextlib.contextmanager
    def _reserve(self, length: int) -> Iterator[None]:
        """Count a request and its bytes as in flight, or refuse it."""
        if self._in_flight >= self._max_in_flight or self._reserved_bytes + length > _MAX_RESERVED_BYTES:
            raise HTTPException(429, _BUSY, _RETRY)
        self._in_flight += 1
        self._reserved_bytes += length
        try:
            yield
        finally:
            self._in_flight -= 1
            self._reserved_bytes -= length


async def _of_form(request: Request, max_bytes: int) -> bytes:
    """Return the file in the one field of a form."""
    parser = MultiPartParser(request.headers, request.stream(), max_files=1, max_fields=0)
    parser.spool_max_size = max_bytes + 1  # images stay in memory, never in temporary files
    try:
        async with contextlib.AsyncExitStack() as stack:
            form = await parser.parse()
            stack.push_async_callback(form.close)
            file = form.get(_FIELD)
            if isinstance(file, UploadFile):
                return await file.read()
    except (MultiPartException, ValueError):  # ValueError: names in an invalid character set
        pass
    raise HTTPException(400, f"the form must have exactly one file, in the field {_FIELD}")


def _top_k(request: Request) -> int:
    if unknown := sorted(set(request.query_params) - {"top_k"}):
        raise HTTPException(400, f"unknown parameter {unknown[0]!r}: there is only top_k")
    text = request.query_params.get("top_k", "5")
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(_MAX_TOP_K)) and 1 <= int(text) <= _MAX_TOP_K):
        raise HTTPException(400, f"top_k must be an integer from 1 to {_MAX_TOP_K}")
    return int(text)


async def _openapi(_request: Request) -> Response:
    return JSONResponse(openapi.DOCUMENT)


async def _docs(_request: Request) -> Response:
    policy = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"}
    return HTMLResponse(openapi.page(), headers=policy)


def _refused(_request: Request, exc: Exception) -> Response:
    assert isinstance(exc, HTTPException)  # noqa: S101  # Starlette's signature has Exception
    return error(exc.status_code, exc.detail, dict(exc.headers or {}))


def _failed(_request: Request, exc: Exception) -> Response:
    if isinstance(exc, ImageError):
        return error(422, str(exc))
    status, message = next((status, message) for kind, status, message in _SERVER_ERRORS if isinstance(exc, kind))
    LOGGER.warning("%d: %s", status, printable(str(exc)))
    return error(status, message, _RETRY if status in (429, 503) else None)


def _disconnected(_request: Request, _exc: Exception) -> Response:
    return error(400, "the connection was closed before the end of the body")


def _crashed(_request: Request, _exc: Exception) -> Response:
    return error(500, "the gateway failed")
