"""Errors of gRPC, HTTP and sockets become the client's own."""

import http.client
import re
from pathlib import Path

import aiohttp
import grpc
import pytest
from resnet_client import errors
from resnet_client.error_mapping import IMAGE_PREFIX, OVERLOAD_PREFIX, RefusedError, map_error, mapped

URL = "grpc://h:1"
FULL = f"{URL} is overloaded: Exceeds maximum queue size; retry later or send fewer images at once"
TOKEN = "it requires the admin token (of `make serve`: in .admin-token): set admin_token"  # noqa: S105  # the remedy
GRPC_TOKEN = "triton-grpc-protocol-admin-key"  # noqa: S105  # a header
ROOT = Path(__file__).resolve().parents[2]


class Refused(grpc.RpcError):
    """A refusal as gRPC raises it."""

    def __init__(self, status, message):
        self._status, self._message = status, message

    def code(self):
        return grpc.StatusCode[self._status]

    def details(self):
        return self._message


@pytest.mark.parametrize(
    ("status", "number", "reason", "expected", "message"),
    [
        (
            "NOT_FOUND",
            "404",
            "unknown model: 'x'",
            "ModelNotFoundError",
            "`resnet-client load MODEL` loads another one",
        ),
        ("INVALID_ARGUMENT", "400", "requested model 'x' is not available", "ModelNotFoundError", "'x'"),
        ("INVALID_ARGUMENT", "400", "[request id: 7] in ensemble 'r', [image] no", "InvalidImageError", "no"),
        ("INVALID_ARGUMENT", "400", "unexpected inference input 'x', [image] expected", "RequestError", "'x'"),
        ("INVALID_ARGUMENT", "400", "unexpected inference input 'IMAGE'", "RequestError", "IMAGE"),
        ("INVALID_ARGUMENT", "400", "unexpected inference output 'F' for model 'm'", "RequestError", "as 'resnet50'"),
        ("UNAVAILABLE", "503", "in ensemble 'r', [overload] 64 wait", "OverloadedError", "is overloaded: 64 wait"),
        ("UNAVAILABLE", "503", "in ensemble 'r', Exceeds maximum queue size", "OverloadedError", FULL),
        ("UNAVAILABLE", "503", "Request timeout expired", "OverloadedError", "retry later"),
        ("UNAVAILABLE", "503", "failed to connect to all addresses", "UnavailableError", "connect"),
        ("UNAVAILABLE", "403", f"it is restricted, expecting header '{GRPC_TOKEN}'", "RequestError", TOKEN),
        ("PERMISSION_DENIED", "403", "it is restricted, expecting header 'admin-key'", "RequestError", TOKEN),
        ("PERMISSION_DENIED", "403", "This API is restricted", "RequestError", "restricted"),
        ("DEADLINE_EXCEEDED", "504", "Deadline Exceeded", "DeadlineExceededError", "timeout_s"),
        ("RESOURCE_EXHAUSTED", "429", "rate limit", "OverloadedError", "is overloaded: rate limit; retry later"),
        ("INTERNAL", "500", "Stub process 'x' is not healthy.", "ResponseError", "not healthy"),
        ("UNKNOWN", "418", "?", "ResponseError", "?"),
    ],
)
def test_map_error_is_the_same_for_both_protocols(status, number, reason, expected, message):
    """A gRPC status and its HTTP number give one error, which has cause and remedy without prefixes for programs."""
    by_grpc = map_error(Refused(status, reason), URL, 1)
    by_http = map_error(RefusedError(reason, number), URL, 1)
    assert type(by_grpc) is type(by_http) is getattr(errors, expected)
    assert str(by_grpc) == str(by_http)
    assert message in str(by_grpc)
    assert expected not in ("InvalidImageError", "OverloadedError") or "[" not in str(by_grpc)


@pytest.mark.parametrize(
    ("foreign", "expected"),
    [
        (ConnectionRefusedError(111, "Connection refused"), errors.UnavailableError),
        (TimeoutError(110, "Connection timed out"), errors.UnavailableError),
        (TimeoutError(), errors.DeadlineExceededError),
        (TimeoutError("timed out"), errors.UnavailableError),
        (aiohttp.ConnectionTimeoutError("Connection timeout to host"), errors.UnavailableError),
        (http.client.RemoteDisconnected("closed without response"), errors.UnavailableError),
        (http.client.IncompleteRead(b"half"), errors.UnavailableError),
        (aiohttp.ServerDisconnectedError(), errors.UnavailableError),
        (RuntimeError("Session is closed"), errors.ClosedError),
        (ValueError("Cannot invoke RPC on closed channel!"), errors.ClosedError),
        (KeyError("outputs"), errors.ResponseError),
    ],
)
def test_mapped_keeps_the_cause(foreign, expected):
    """Sockets, HTTP libraries and unreadable responses each have their error."""
    with pytest.raises(expected) as caught, mapped(URL, 10):
        raise foreign
    assert caught.value.__cause__ is foreign


@pytest.mark.parametrize(
    ("file", "prefixes"),
    [
        ("model_repository/preprocess/1/model.py", {IMAGE_PREFIX, OVERLOAD_PREFIX}),
        ("deploy/compose/healthcheck.py", {OVERLOAD_PREFIX}),
    ],
)
def test_error_mapping_has_the_prefixes_of_the_standalone_files(file, prefixes):
    """They run without this package, and write or look for the prefixes that it reads."""
    repeated = set(re.findall(r'"(\[\w+\] )"', (ROOT / file).read_text(encoding="utf-8")))
    assert repeated == prefixes


def test_errors_have_natural_bases():
    """`TimeoutError` or `ValueError` catches the client's."""
    assert issubclass(errors.DeadlineExceededError, TimeoutError)
    assert issubclass(errors.ConfigurationError, ValueError)
    assert issubclass(errors.ImageError, ValueError)
