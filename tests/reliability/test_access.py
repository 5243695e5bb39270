"""Clients without the admin token classify and see health, and nothing else; each endpoint is tried."""

from __future__ import annotations

import http.client
import itertools
import secrets
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.message_factory import GetMessageClass
from resnet_client import Client, RequestError
from resnet_serve import ServerConfig, TritonServer
from resnet_serve.config import APIS, OPEN_APIS
from tritonclient.grpc import service_pb2

pytestmark = pytest.mark.reliability

WAIT_S = 60
SERVICE = service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"]

# API → every method of Triton's gRPC service, and every path of its HTTP API (protocol extensions of the release).
GRPC_METHODS = {
    "health": ("ServerLive", "ServerReady", "ModelReady"),
    "metadata": ("ServerMetadata", "ModelMetadata"),
    "inference": ("ModelInfer", "ModelStreamInfer"),
    "model-config": ("ModelConfig",),
    "statistics": ("ModelStatistics",),
    "model-repository": ("RepositoryIndex", "RepositoryModelLoad", "RepositoryModelUnload"),
    "shared-memory": tuple(
        f"{kind}SharedMemory{verb}" for kind in ("System", "Cuda") for verb in ("Status", "Register", "Unregister")
    ),
    "trace": ("TraceSetting",),
    "logging": ("LogSettings",),
}
MEMORY_PATHS = ("status", "region/mine/status", "region/mine/register", "unregister", "region/mine/unregister")
MODEL_PATHS = ("v2/models/resnet50", "v2/models/resnet50/versions/1")
HTTP_PATHS = {
    "health": ("v2/health/live", "v2/health/ready", *(f"{model}/ready" for model in MODEL_PATHS)),
    "metadata": ("v2", *MODEL_PATHS),
    "inference": tuple(f"{model}/{verb}" for model in MODEL_PATHS for verb in ("infer", "generate", "generate_stream")),
    "model-config": tuple(f"{model}/config" for model in MODEL_PATHS),
    "statistics": ("v2/models/stats", *(f"{model}/stats" for model in MODEL_PATHS)),
    "model-repository": (
        "v2/repository/index",
        *(f"v2/repository/{where}models/other/{verb}" for where in ("", "mine/") for verb in ("load", "unload")),
    ),
    "shared-memory": tuple(f"v2/{kind}sharedmemory/{path}" for kind in ("system", "cuda") for path in MEMORY_PATHS),
    "trace": ("v2/trace/setting", "v2/models/resnet50/trace/setting"),
    "logging": ("v2/logging",),
}
METHODS = ("GET", "POST", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS")


# Other spellings of a closed path must not get past the lock.
CROOKED = (
    "//v2/logging",
    "/v2//logging",
    "/v2/logging/",
    "/V2/logging",
    "/v2/./logging",
    "/v2/models/../logging",
    "/v2/%6cogging",
    "/v2/logging%00",
    "/v2/logging?x=1",
    "/v2/health/live/../../logging",
    "/v2/logging;x",
)


@pytest.fixture(scope="module", params=[OPEN_APIS, ()], ids=["default", "none"])
def locked(request: pytest.FixtureRequest, repository: Path) -> Iterator[TritonServer]:
    """A server with a token of its own, which no environment knows."""
    config = ServerConfig(repository, port=0, open_apis=request.param, admin_token=secrets.token_urlsafe())
    with TritonServer(config) as running:
        yield running


@pytest.fixture(autouse=True)
def no_token_around(monkeypatch: pytest.MonkeyPatch) -> None:
    """An unauthenticated client has none."""
    monkeypatch.delenv("RESNET_ADMIN_TOKEN", raising=False)


def of_apis(table: dict[str, tuple[str, ...]], apis: Iterable[str]) -> set[str]:
    """The methods or paths of some APIs."""
    return {entry for api in apis for entry in table[api]}


def grpc_refusals(url: str, token: str | None) -> set[str]:
    """Which methods of the service are refused for want of the token."""
    with grpc.insecure_channel(url.removeprefix("grpc://")) as channel:
        return {method.name for method in SERVICE.methods if "restricted" in why_not(channel, method, token)}


def why_not(channel: grpc.Channel, method: Any, token: str | None) -> str:
    """Call a method with or without a token; return why it failed, or nothing."""
    request, answer = GetMessageClass(method.input_type)(), GetMessageClass(method.output_type)
    for field in {"name", "model_name"}.intersection(request.DESCRIPTOR.fields_by_name):
        # Where it could do harm, a model or region that there is not.
        is_harmful = method.name in GRPC_METHODS["model-repository"] + GRPC_METHODS["shared-memory"]
        setattr(request, field, "other" if is_harmful else "resnet50")
    options: dict[str, Any] = {"timeout": WAIT_S}
    if token is not None:
        options["metadata"] = (("triton-grpc-protocol-admin-key", token),)
    coders = (type(request).SerializeToString, answer.FromString)
    path = f"/{SERVICE.full_name}/{method.name}"
    try:
        if method.client_streaming:
            answers: Iterator[Any] = channel.stream_stream(path, *coders)(iter([request]), **options)
            return "".join(message.error_message for message in answers)
        channel.unary_unary(path, *coders)(request, **options)
    except grpc.RpcError as exc:
        return str(exc.details())
    return ""


def status_and_text(url: str, method: str, path: str, token: str | None = None) -> tuple[int, bytes]:
    """Send a request as it stands, without putting its path in order."""
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=WAIT_S)
    try:
        body = "{}" if method in {"POST", "PUT", "PATCH"} else None
        connection.request(method, path, body, {} if token is None else {"admin-key": token})
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def http_refusals(url: str, token: str | None) -> set[tuple[str, str]]:
    """Which methods of which paths are refused for want of the token."""
    found = set()
    for method, path in itertools.product(METHODS, of_apis(HTTP_PATHS, HTTP_PATHS)):
        status, _ = status_and_text(url, method, f"/{path}", token)
        if status == http.HTTPStatus.FORBIDDEN:
            found.add((method, path))
    return found


def test_access_tests_every_method() -> None:
    """The list holds every method that the service's own description names, and only APIs that can be closed."""
    assert {method.name for method in SERVICE.methods} == of_apis(GRPC_METHODS, GRPC_METHODS)
    assert GRPC_METHODS.keys() == HTTP_PATHS.keys() == {"health", "inference", *APIS}


@pytest.mark.parametrize("token", [None, "not-the-one-that-it-is"], ids=["none", "wrong"])
def test_clients_without_the_token_are_refused(
    locked: TritonServer, token: str | None, note: Callable[[str], None]
) -> None:
    """Each endpoint of a closed API, over gRPC and over HTTP with every method, wants the token; no other does."""
    shut_methods, shut_paths = (of_apis(table, locked.config.closed_apis) for table in (GRPC_METHODS, HTTP_PATHS))
    assert grpc_refusals(locked.grpc_url, token) == shut_methods
    assert http_refusals(locked.http_url, token) == set(itertools.product(METHODS, shut_paths))
    note(
        f"{len(shut_methods)} of {len(of_apis(GRPC_METHODS, GRPC_METHODS))} gRPC methods and {len(shut_paths)} of "
        f"{len(of_apis(HTTP_PATHS, HTTP_PATHS))} HTTP paths (each with {len(METHODS)} methods) refused, the others open"
    )


def test_admin_token_opens_every_endpoint(locked: TritonServer) -> None:
    """With the token, no endpoint is refused."""
    assert grpc_refusals(locked.grpc_url, locked.admin_token) == set()
    assert http_refusals(locked.http_url, locked.admin_token) == set()


def test_unauthenticated_client_classifies_and_reads_health(locked: TritonServer, images: dict[str, Path]) -> None:
    """That is all a client needs; for everything else it gets a message that names the remedy."""
    for url in (locked.grpc_url, locked.http_url):
        with Client(url) as client:
            assert client.health().ok
            assert client.classify(images["cat"]).top.label == "Egyptian cat"
            if "statistics" in locked.config.open_apis:
                assert client.statistics()
                continue
            with pytest.raises(RequestError, match="it requires the admin token"):
                client.statistics()
        with Client(url, admin_token=locked.admin_token) as client:
            assert client.statistics()


def test_other_spellings_open_nothing(locked: TritonServer) -> None:
    """No crooked path reaches the log settings."""
    assert status_and_text(locked.http_url, "GET", "/v2/logging", locked.admin_token)[0] == http.HTTPStatus.OK
    for path in CROOKED:
        status, text = status_and_text(locked.http_url, "GET", path)
        assert status >= http.HTTPStatus.BAD_REQUEST, path
        assert b"log_" not in text, path
