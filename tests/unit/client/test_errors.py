"""Foreign errors become ours, whatever protocol they came by."""

import ast
import http.client
import ssl
from pathlib import Path
from unittest.mock import Mock

import aiohttp
import grpc
import pytest
from resnet_client import error_mapping, errors
from resnet_client.error_mapping import RefusedError, map_error, mapped

URL = "grpc://h:1"
ROOT = Path(__file__).resolve().parents[3]
STANDALONE = (
    "model_repository/preprocess/1/model.py",
    "build/resnet_build/python_models/preprocess_check.py",
    "deploy/compose/healthcheck.py",
)


class Refused(grpc.RpcError):
    """A refusal as gRPC raises it."""

    def __init__(self, status, sentence):
        self._status, self._sentence = status, sentence

    def code(self):
        """Its status."""
        return grpc.StatusCode[self._status]

    def details(self):
        """The server's words."""
        return self._sentence


@pytest.mark.parametrize(
    ("status", "number", "sentence", "expected"),
    [
        ("NOT_FOUND", "404", "Request for unknown model: 'x' is not found", errors.ModelNotFoundError),
        ("INVALID_ARGUMENT", "400", "requested model 'x' is not available", errors.ModelNotFoundError),
        (
            "INVALID_ARGUMENT",
            "400",
            "[request id: 7] in ensemble 'r', [image] the image is empty (0 bytes)",
            errors.InvalidImageError,
        ),
        ("INVALID_ARGUMENT", "400", "unexpected inference input 'photo', [image] expected", errors.RequestError),
        ("UNAVAILABLE", "503", "in ensemble 'r', [overload] 64 images are waiting already", errors.OverloadedError),
        ("INVALID_ARGUMENT", "400", "unexpected inference input 'IMAGE'", errors.RequestError),
        ("UNAVAILABLE", "503", "in ensemble 'r', Exceeds maximum queue size", errors.OverloadedError),
        ("UNAVAILABLE", "503", "Request timeout expired", errors.OverloadedError),
        ("UNAVAILABLE", "503", "failed to connect to all addresses", errors.UnavailableError),
        ("DEADLINE_EXCEEDED", "504", "Deadline Exceeded", errors.DeadlineExceededError),
        ("PERMISSION_DENIED", "403", "This API is restricted", errors.RequestError),
        ("INTERNAL", "500", "Stub process 'x' is not healthy.", errors.ResponseError),
        ("UNKNOWN", "418", "?", errors.ResponseError),
    ],
)
def test_both_protocols_mean_the_same(status, number, sentence, expected):
    """A gRPC status and its HTTP number give the same error with the same words."""
    by_grpc = map_error(Refused(status, sentence), URL, 1)
    by_http = map_error(RefusedError(sentence, number), URL, 1)
    assert type(by_grpc) is type(by_http) is expected
    assert str(by_grpc) == str(by_http)


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
def test_foreign_errors_are_mapped(foreign, expected):
    """Sockets, HTTP libraries and unreadable answers each have their error, with the cause kept."""
    with pytest.raises(expected) as caught, mapped(URL, 10):
        raise foreign
    assert caught.value.__cause__ is foreign


@pytest.mark.parametrize(
    "foreign",
    [
        http.client.BadStatusLine("\x00\x00\x18\x04\x1b[31m\r\n"),
        aiohttp.ClientResponseError(
            Mock(real_url="http://h:8001"), (), status=400, message="Bad status line:\n b'\\x00\\x00'"
        ),
    ],
)
def test_answers_that_are_no_http_are_no_control_characters(foreign):
    """Where a gRPC port is asked over HTTP, this is said, and nothing of the answer reaches a terminal as it is."""
    error = map_error(foreign, "http://h:8001", 1)
    assert type(error) is errors.UnavailableError
    assert "as if this were a port of gRPC" in str(error)
    assert str(error).isprintable()


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("in ensemble 'r', [image] the image is empty (0 bytes)", "the image is empty (0 bytes)"),
        ("[overload] 64 images are waiting; retry later", f"{URL} is overloaded: 64 images are waiting; retry later"),
        (
            "Exceeds maximum queue size",
            f"{URL} is overloaded: Exceeds maximum queue size; retry later or send fewer images at once",
        ),
    ],
)
def test_messages_have_no_prefix(message, expected):
    """Users see cause and remedy once, without what is meant for programs."""
    assert str(map_error(RefusedError(message, "503"), URL, 1)) == expected


@pytest.mark.parametrize("file", STANDALONE)
def test_standalone_files_have_the_same_prefixes(file):
    """What runs without this package writes, or looks for, the prefixes that it reads."""
    assigned = {}
    for node in ast.parse((ROOT / file).read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign):
            names = node.targets[0].elts if isinstance(node.targets[0], ast.Tuple) else node.targets
            values = node.value.elts if isinstance(node.value, ast.Tuple) else [node.value]
            assigned |= {name.id: value for name, value in zip(names, values, strict=False)}
    repeated = {name: ast.literal_eval(assigned[name]) for name in assigned if name.endswith("_PREFIX")}
    assert repeated == {name: getattr(error_mapping, name) for name in repeated}
    assert "OVERLOAD_PREFIX" in repeated


def test_models_that_answer_something_else_name_those_that_do():
    """A model without the output asked for is refused with the remedy."""
    error = map_error(RefusedError("unexpected inference output 'FEATURES__1' for model 'preprocess'", "400"), URL, 1)
    assert type(error) is errors.RequestError
    assert "one such as 'resnet50'" in str(error)


def test_missing_models_name_who_lists_them():
    """`metadata` tells of one model only."""
    error = map_error(RefusedError("unknown model: 'x'", "404"), URL, 1)
    assert "`resnet-serve` lists its models" in str(error)


def test_certificates_name_their_remedy():
    """What fails over TLS points to the options for certificates."""
    error = map_error(ssl.SSLCertVerificationError("certificate verify failed"), "https://h:1", 1)
    assert "ca_certificate names whom to trust" in str(error)


@pytest.mark.parametrize(
    "refusal",
    [
        Refused("UNAVAILABLE", "This protocol is restricted, expecting header 'triton-grpc-protocol-admin-key'"),
        RefusedError("This API is restricted, expecting header 'admin-key'", "403"),
    ],
)
def test_closed_doors_name_the_key(refusal):
    """A call that wants the admin token is refused, whatever status the server gives; it is not tried again."""
    error = map_error(refusal, URL, 1)
    assert type(error) is errors.RequestError
    assert "RESNET_ADMIN_TOKEN) opens it" in str(error)


def test_our_own_time_out_in_the_servers_queue_is_no_overload():
    """What the server drops because our time is up is a missed deadline."""
    error = RefusedError("Request timeout expired", "503")
    assert isinstance(map_error(error, URL, 1, is_late=True), errors.DeadlineExceededError)


def test_natural_bases_work():
    """Who catches `TimeoutError` or `ValueError` catches ours."""
    assert issubclass(errors.DeadlineExceededError, TimeoutError)
    assert issubclass(errors.ConfigurationError, ValueError)
    assert issubclass(errors.ImageError, ValueError)
