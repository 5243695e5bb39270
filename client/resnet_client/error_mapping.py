"""Map exceptions of other libraries to those of this package, for both protocols and all four transports.

Triton 2.51 reports the same failures over both: gRPC by a status name, HTTP by a number. A status has several
meanings: UNAVAILABLE is a server that does not answer, or a full queue; INVALID_ARGUMENT is an invalid image or an
invalid request. The models `preprocess` and `preprocess_check` begin their messages with a prefix that distinguishes
them.
"""

from __future__ import annotations

import asyncio
import re
from contextlib import contextmanager
from http.client import HTTPException
from typing import TYPE_CHECKING
from urllib.parse import unquote

from resnet_client.errors import (
    ClosedError,
    DeadlineExceededError,
    InvalidImageError,
    ModelNotFoundError,
    OverloadedError,
    RequestError,
    ResnetClientError,
    ResponseError,
    ServerError,
    UnavailableError,
)
from resnet_client.printing import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

_HTTP_STATUS = {
    "400": "INVALID_ARGUMENT",
    "401": "UNAUTHENTICATED",
    "403": "PERMISSION_DENIED",
    "404": "NOT_FOUND",
    "405": "NOT_FOUND",
    "409": "ALREADY_EXISTS",
    "413": "INVALID_ARGUMENT",
    "429": "RESOURCE_EXHAUSTED",
    "499": "CANCELLED",
    "501": "UNIMPLEMENTED",
    "502": "UNAVAILABLE",
    "503": "UNAVAILABLE",
    "504": "DEADLINE_EXCEEDED",
}

# Also in both models and in deploy/compose/healthcheck.py, which run without this package; a test compares them.
IMAGE_PREFIX, OVERLOAD_PREFIX = "[image] ", "[overload] "
_PREFIXES: dict[str, type[ServerError | InvalidImageError]] = {
    IMAGE_PREFIX: InvalidImageError,
    OVERLOAD_PREFIX: OverloadedError,
}

_UNEXPECTED_OUTPUT = "unexpected inference output"
_RESTRICTED = "is restricted, expecting header"

# Without a prefix, the first rule that matches decides: status, text in the message (None: any), our error.
_RULES: tuple[tuple[str | None, str | None, type[ServerError]], ...] = (
    (None, _RESTRICTED, RequestError),
    ("DEADLINE_EXCEEDED", None, DeadlineExceededError),
    (None, "exceeds maximum queue size|request timeout expired", OverloadedError),
    ("NOT_FOUND", "model", ModelNotFoundError),
    ("NOT_FOUND", None, RequestError),  # a wrong path, or a server that is not Triton
    (None, "unknown model|requested model '.*' is not available|not at ready state", ModelNotFoundError),
    ("UNAVAILABLE|CANCELLED", None, UnavailableError),  # CANCELLED: the server is stopping
    ("RESOURCE_EXHAUSTED", "CLIENT: Received message larger", ResponseError),  # the response, not the request
    ("RESOURCE_EXHAUSTED", "message larger", RequestError),
    ("RESOURCE_EXHAUSTED", None, OverloadedError),  # the rate limit of a proxy
    ("INVALID_ARGUMENT|ALREADY_EXISTS|FAILED_PRECONDITION|OUT_OF_RANGE", None, RequestError),
    ("PERMISSION_DENIED|UNAUTHENTICATED|UNIMPLEMENTED", None, RequestError),
    (None, None, ResponseError),
)

_MESSAGES: dict[type[Exception], str] = {
    DeadlineExceededError: "{url} did not answer in time ({reason}); increase timeout_s",
    InvalidImageError: "{reason}",
    ModelNotFoundError: "{url}: {reason}; check model and model_version; `resnet-client models` "
    "lists the loaded models, and `resnet-client load MODEL` loads another one",
    OverloadedError: "{url} is overloaded: {reason}",
    RequestError: "{url} refuses the request: {reason}",
    ResponseError: "{url} failed: {reason}; see the server's log",
    UnavailableError: "{url} cannot be reached: {reason}; check that the server runs (`resnet-serve`) and that the URL "
    "is right (defaults: grpc://HOST:8001, http://HOST:8000)",
}
_SECURE = (
    "{url} cannot be reached: {reason}; check that the server runs and uses TLS, that the URL is right, and the "
    "certificates (ca_certificate; for mutual TLS also client_certificate and client_key)"
)
_CLOSED_API = (
    "{url} refuses the request: {reason}; it requires the admin token (of `make serve`: in .admin-token): set "
    "admin_token, or RESNET_ADMIN_TOKEN, which is sent only to this machine and to the hosts in RESNET_URL, and never "
    "over http:// to another machine"
)

_WRONG_MODEL = (
    "{url} refuses the request: the model does not have the requested output ({reason}); use a model such as "
    "'resnet50' for classify and embed, and 'resnet50_backbone' for feature_maps"
)
_WRONG_PATH = "{url}: there is no Triton server at this URL ({reason}); check its port and its path"

# What libraries report when the server at a port speaks another protocol, and what it means.
_WRONG_PROTOCOL = (
    (r"^BadStatusLine|^ClientResponseError.*Bad status line", "the response is not HTTP; is this the gRPC port?"),
    (r"failed to connect.*Socket closed", "the server closes the connection; is this a gRPC port?"),
    (r"wrong.version.number|record layer failure", "the server does not use TLS at this port"),
    (r"EOF occurred|unexpected.eof", "the server closed the connection during the TLS handshake"),
)

_WAIT = "; retry later or send fewer images at once"

_CLOSED = re.compile(r"closed channel|session is closed|channel is closed", re.IGNORECASE)
_ADDRESS = re.compile(r"^(\[request id: [^\]]*\] |in ensemble '[^']*', )+")


class RefusedError(Exception):
    """A server's error response over HTTP; over gRPC it is :class:`grpc.RpcError`.

    Attributes:
        status: the HTTP status, such as ``"404"``.
    """

    def __init__(self, reason: str, status: str) -> None:
        super().__init__(reason)
        self.status = status


@contextmanager
def mapped(url: str, timeout_s: float) -> Iterator[None]:
    """Map every exception raised in the block to one of this package; the original is its cause.

    Args:
        url: of the server.
        timeout_s: timeout of the request.
    """
    try:
        yield
    except (ResnetClientError, asyncio.CancelledError):
        raise
    except Exception as exc:
        raise map_error(exc, url, timeout_s) from exc


def map_error(error: Exception, url: str, timeout_s: float) -> ResnetClientError:
    """Return the exception of this package for one of another library.

    Args:
        error: an exception of gRPC, http.client, aiohttp or a socket.
        url: of the server.
        timeout_s: timeout of the request.
    """
    if isinstance(error, RefusedError):
        return _from_server(_HTTP_STATUS.get(error.status, "INTERNAL"), str(error), url)
    if callable(details := getattr(error, "details", None)):  # grpc.RpcError, without importing gRPC
        return _from_server(error.code().name, details(), url)  # type: ignore[attr-defined]
    if type(error) is TimeoutError and not error.args:  # our own timeout; that of a connection has a text
        return _made(DeadlineExceededError, None, f"timeout of this attempt: {timeout_s:.3g} s", url)
    if _CLOSED.search(str(error)):
        return ClosedError("the client was closed while it was used")
    if isinstance(error, OSError | HTTPException) or type(error).__module__.startswith("aiohttp"):
        return _made(UnavailableError, None, _words(error), url)
    return _made(ResponseError, None, f"the response cannot be read ({type(error).__name__}: {_words(error)})", url)


def _words(error: Exception) -> str:
    """A library's error message, without control characters that came from the server."""
    error = getattr(error, "os_error", error)  # aiohttp's own message contains the repr of the TLS context
    words = printable(str(error)) or type(error).__name__
    return _plain(f"{type(error).__name__}: {words}") or words


def _plain(words: str) -> str | None:
    found = (plain for pattern, plain in _WRONG_PROTOCOL if re.search(pattern, words, re.IGNORECASE | re.DOTALL))
    return next(found, None)


def _from_server(status: str, words: str | None, url: str) -> ResnetClientError:
    reason = printable(_ADDRESS.sub("", words or "no reason given"), keep="\n")
    for prefix, made in _PREFIXES.items():
        if reason.startswith(prefix):
            return _made(made, status, reason.removeprefix(prefix), url)
    kind = next(
        kind
        for statuses, pattern, kind in _RULES
        if (statuses is None or status in statuses.split("|"))
        and (pattern is None or re.search(pattern, reason, re.IGNORECASE))
    )
    if kind is UnavailableError:
        reason = _plain(reason) or printable(unquote(reason))  # gRPC writes ::1 as %5B::1%5D
    return _made(kind, status, reason + _WAIT if kind is OverloadedError else reason, url)


def _made(kind: type[ServerError | InvalidImageError], status: str | None, reason: str, url: str) -> ResnetClientError:
    message = _MESSAGES[kind]
    if kind is UnavailableError and url.startswith(("grpcs:", "https:")):
        message = _SECURE  # a server that requires a client certificate often closes the connection without a reason
    elif kind is RequestError and _RESTRICTED in reason:
        message = _CLOSED_API
    elif kind is RequestError and _UNEXPECTED_OUTPUT in reason:
        message = _WRONG_MODEL
    elif kind is RequestError and status == "NOT_FOUND":
        message = _WRONG_PATH
    message = message.format(url=url, reason=reason)
    if issubclass(kind, InvalidImageError):
        return kind(message, source="")
    return kind(message, status=status)
