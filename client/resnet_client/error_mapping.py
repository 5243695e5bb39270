"""The one place where foreign errors become ours, for both protocols and all four transports.

Triton 2.51 reports the same failures over both: gRPC by a status name, HTTP by a number. A status alone is
not enough: UNAVAILABLE means that no server answers, or that its queue is full; INVALID_ARGUMENT means an invalid image
or an invalid request. The models `preprocess` and `preprocess_check` start their messages with a prefix that tells them
apart.
"""

from __future__ import annotations

import asyncio
import re
import time
from contextlib import contextmanager
from http.client import BadStatusLine, HTTPException, RemoteDisconnected
from typing import TYPE_CHECKING

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
    "409": "ALREADY_EXISTS",
    "413": "INVALID_ARGUMENT",
    "499": "CANCELLED",
    "501": "UNIMPLEMENTED",
    "502": "UNAVAILABLE",
    "503": "UNAVAILABLE",
    "504": "DEADLINE_EXCEEDED",
}

# Also in both models and in deploy/compose/healthcheck.py, which run without this package; a test compares.
IMAGE_PREFIX, OVERLOAD_PREFIX = "[image] ", "[overload] "
_PREFIXES: dict[str, type[ServerError | InvalidImageError]] = {
    IMAGE_PREFIX: InvalidImageError,
    OVERLOAD_PREFIX: OverloadedError,
}

_UNEXPECTED_OUTPUT = "unexpected inference output"
_RESTRICTED = "is restricted, expecting header"
_QUEUE_TIMEOUT = re.compile(r"request timeout expired", re.IGNORECASE)

# Without a prefix, the first rule that fits decides: status (None: any), what the message holds (None: anything), our
# error.
_RULES: tuple[tuple[str | None, str | None, type[ServerError]], ...] = (
    (None, _RESTRICTED, RequestError),
    ("DEADLINE_EXCEEDED", None, DeadlineExceededError),
    (None, "exceeds maximum queue size|request timeout expired", OverloadedError),
    ("NOT_FOUND", None, ModelNotFoundError),
    (None, "unknown model|requested model '.*' is not available|not at ready state", ModelNotFoundError),
    ("INVALID_ARGUMENT", None, RequestError),
    ("UNAVAILABLE", None, UnavailableError),
    ("CANCELLED", None, UnavailableError),  # the server is stopping
    ("ALREADY_EXISTS", None, RequestError),
    ("FAILED_PRECONDITION", None, RequestError),
    ("OUT_OF_RANGE", None, RequestError),
    ("PERMISSION_DENIED", None, RequestError),
    ("RESOURCE_EXHAUSTED", "CLIENT: Received message larger", ResponseError),  # the response, not the request
    ("RESOURCE_EXHAUSTED", None, RequestError),
    ("UNAUTHENTICATED", None, RequestError),
    ("UNIMPLEMENTED", None, RequestError),
    (None, None, ResponseError),
)

# Cause and remedy in one message.
_MESSAGES: dict[type[Exception], str] = {
    DeadlineExceededError: "{url} gave no answer in time: {reason}; allow more with timeout_s",
    InvalidImageError: "{reason}",
    ModelNotFoundError: "{url}: {reason}; `resnet-serve` lists its models when it starts",
    OverloadedError: "{url} is overloaded: {reason}",
    RequestError: "{url} refuses the request: {reason}",
    ResponseError: "{url} failed: {reason}; its log tells more",
    UnavailableError: "{url} cannot be reached: {reason}; is the server running, and is this its URL?",
}
_SECURE = (
    "{url} cannot be reached: {reason}; is the server running, and is this its URL? ca_certificate names whom "
    "to trust, client_certificate who we are"
)
_CLOSED_API = (
    "{url} refuses the request: {reason}; the admin token opens it: admin_token, or RESNET_ADMIN_TOKEN for the servers "
    "of RESNET_URL and this machine. It is not sent over plain HTTP to another machine"
)

_WRONG_MODEL = (
    "{url} refuses the request: this model does not answer that ({reason}); classify and embed with one such as "
    "'resnet50', feature_maps with 'resnet50_backbone'"
)
_NO_HTTP = "the answer is no HTTP, as if this were a port of gRPC (usually grpc://HOST:8001, http://HOST:8000): {words}"

_WAIT = "; retry later or send fewer images at once"

_CLOSED = re.compile(r"closed channel|session is closed|channel is closed", re.IGNORECASE)
_ADDRESS = re.compile(r"^(\[request id: [^\]]*\] |in ensemble '[^']*', )+")

_OWN_TIMEOUT_SHARE = 0.9
_LONGEST_WORDS = 100


class RefusedError(Exception):
    """A server's refusal over HTTP, in its own words; over gRPC it is :class:`grpc.RpcError`.

    Attributes:
        status: the number, such as ``"404"``.
    """

    def __init__(self, reason: str, status: str) -> None:
        super().__init__(reason)
        self.status = status


@contextmanager
def mapped(url: str, timeout_s: float) -> Iterator[None]:
    """Turn whatever is raised inside into an error of ours, the original as its cause.

    Args:
        url: whom the request goes to.
        timeout_s: what was allowed for it.
    """
    started_s = time.monotonic()
    try:
        yield
    except (ResnetClientError, asyncio.CancelledError):
        raise
    except Exception as exc:
        is_late = time.monotonic() - started_s >= _OWN_TIMEOUT_SHARE * timeout_s
        raise map_error(exc, url, timeout_s, is_late=is_late) from exc


def map_error(error: Exception, url: str, timeout_s: float, *, is_late: bool = False) -> ResnetClientError:
    """Which of our errors this foreign one is.

    Args:
        error: of gRPC, http.client, aiohttp, or a socket.
        url: whom the request went to.
        timeout_s: what was allowed for it.
        is_late: whether nearly all of it was used up; a request that the server then drops from its queue
            met our own time-out, not an overload.
    """
    if isinstance(error, RefusedError):
        return _from_server(_HTTP_STATUS.get(error.status, "INTERNAL"), str(error), url, is_late=is_late)
    if callable(details := getattr(error, "details", None)):  # grpc.RpcError, without importing gRPC
        return _from_server(error.code().name, details(), url, is_late=is_late)  # type: ignore[attr-defined]
    if type(error) is TimeoutError and not error.args:  # ours; that of a connection says so
        return _made(DeadlineExceededError, None, f"{timeout_s:.3g} s were left", url)
    if _CLOSED.search(str(error)):
        return ClosedError("the client was closed while it was used")
    if isinstance(error, OSError | HTTPException) or type(error).__module__.startswith("aiohttp"):
        return _made(UnavailableError, None, _words(error), url)
    return _made(ResponseError, None, f"unreadable answer ({type(error).__name__}: {_words(error)})", url)


def _words(error: Exception) -> str:
    """What a library says of an answer, without the control characters that may be in it."""
    words = printable(str(error)) or type(error).__name__
    is_status_line = isinstance(error, BadStatusLine) and not isinstance(error, RemoteDisconnected)
    if is_status_line or "Bad status line" in words:  # the latter: aiohttp's
        return _NO_HTTP.format(words=words[:_LONGEST_WORDS])
    return words


def _from_server(status: str, words: str | None, url: str, *, is_late: bool) -> ResnetClientError:
    reason = printable(_ADDRESS.sub("", words or "no reason given"), keep="\n")
    for prefix, made in _PREFIXES.items():
        if reason.startswith(prefix):
            return _made(made, status, reason.removeprefix(prefix), url)
    if is_late and _QUEUE_TIMEOUT.search(reason):
        return _made(DeadlineExceededError, status, reason, url)
    kind = next(
        kind
        for rule_status, pattern, kind in _RULES
        if rule_status in (None, status) and (pattern is None or re.search(pattern, reason, re.IGNORECASE))
    )
    return _made(kind, status, reason + _WAIT if kind is OverloadedError else reason, url)


def _made(kind: type[ServerError | InvalidImageError], status: str | None, reason: str, url: str) -> ResnetClientError:
    message = _MESSAGES[kind]
    if kind is UnavailableError and url.startswith(("grpcs:", "https:")):
        message = _SECURE  # servers that want a certificate often hang up without a word
    elif kind is RequestError and _RESTRICTED in reason:
        message = _CLOSED_API
    elif kind is RequestError and _UNEXPECTED_OUTPUT in reason:
        message = _WRONG_MODEL
    message = message.format(url=url, reason=reason)
    if issubclass(kind, InvalidImageError):
        return kind(message, source="")
    return kind(message, status=status)
