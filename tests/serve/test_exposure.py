"""Addresses that the embedded Triton listens on, and requests that could crash it."""

from __future__ import annotations

import json
import socket
import stat
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as triton
from processes import wait_for
from resnet_client import Client
from resnet_serve import ServerConfig, ServerError, TritonServer, access, installation
from resnet_serve.config import APIS

# Ends Triton 2.51 by heap corruption: the shape's bytes overflow to none (server#8676).
OVERFLOW = {"name": "IMAGE", "shape": [1 << 61], "datatype": "FP64", "data": [0.0] * 10}
NESTED = b'{"inputs": [{"name": "IMAGE", "shape": [1, 1], "datatype": "BYTES", "data": %s}]}'


@pytest.mark.parametrize(
    ("given", "http_host", "metrics_host"),
    [
        ({}, "127.0.0.1", "127.0.0.1"),
        ({"host": "127.0.0.7"}, "127.0.0.7", "127.0.0.7"),
        ({"host": "0.0.0.0"}, "127.0.0.1", "127.0.0.1"),  # noqa: S104  # what is tested
        ({"host": "192.0.2.1", "metrics_host": "192.0.2.1"}, "127.0.0.1", "192.0.2.1"),
        ({"host": "192.0.2.1", "unsafe_http_host": "192.0.2.2"}, "192.0.2.2", "127.0.0.1"),
    ],
)
def test_config_opens_grpc_only(given: dict[str, str], http_host: str, metrics_host: str) -> None:
    """HTTP and metrics stay on loopback, whatever address gRPC listens on, unless they have an option of their own."""
    config = ServerConfig("models", **given)
    assert (config.http_host, config.metrics_host) == (http_host, metrics_host)


@pytest.mark.parametrize("api", ["model-repository", "shared-memory"])
@pytest.mark.parametrize("option", ["host", "unsafe_http_host"])
def test_check_refuses_to_open_administration_to_a_network(api: str, option: str) -> None:
    """These APIs allow code execution; on loopback they may be open."""
    with pytest.raises(ServerError, match=f"--open-apis {api} is not allowed on 192.0.2.1"):
        access.check(ServerConfig("models", open_apis=(api,), **{option: "192.0.2.1"}))
    access.check(ServerConfig("models", open_apis=APIS))


def test_warnings_name_the_release_and_the_address() -> None:
    """On loopback there are no warnings."""
    assert not list(access.warnings(ServerConfig("models")))
    (grpc,) = access.warnings(ServerConfig("models", host="192.0.2.1"))
    assert grpc.startswith(f"gRPC of Triton {installation.RELEASE} listens on 192.0.2.1: for trusted networks only")
    (http,) = access.warnings(ServerConfig("models", unsafe_http_host="192.0.2.1"))
    assert "anyone who can connect to it can crash the server" in http


def test_release_is_the_one_installed(server: TritonServer) -> None:
    """Warnings name the version that the server reports."""
    with urllib.request.urlopen(f"{server.http_url}/v2", timeout=10) as answer:  # noqa: S310  # http, on loopback
        assert json.load(answer)["version"].startswith(installation.RELEASE.split()[0])


def other_address() -> str:
    """An address of this machine that is not loopback."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing
        except OSError:
            pytest.skip("this machine has no address beyond loopback")
        address: str = probe.getsockname()[0]
    return address


def test_host_opens_grpc_to_the_network_and_nothing_else(serving: Callable, one_model: Path) -> None:
    """Over the machine's address, gRPC answers; HTTP and metrics do not, and a warning is printed."""
    address = other_address()
    with serving(one_model, "--host", "0.0.0.0") as running:  # noqa: S104  # what is tested
        for name, is_open in {"gRPC": True, "HTTP": False, "metrics": False}.items():
            with socket.socket() as probe:
                assert (probe.connect_ex((address, running.port(name))) == 0) == is_open, name
        assert "gRPC of Triton 2.51" in running.errors.read_text()
        assert "for trusted networks only" in running.errors.read_text()


def test_server_with_no_http_answers_over_grpc_only(serving: Callable, one_model: Path) -> None:
    """No HTTP address is printed; the port that the watchdog uses refuses everything without the token, unread."""
    with serving(one_model, "--no-http") as running:
        assert not [line for line in running.lines if line.strip().startswith("HTTP")]
        port = int(Path(f"/proc/{running.server}/cmdline").read_text().split("--http-port=")[1].split("\0")[0])
        body = json.dumps({"inputs": [OVERFLOW]}).encode()
        for path in ("health/live", "models/preprocess/infer", "models/preprocess", "repository/index"):
            request = urllib.request.Request(f"http://127.0.0.1:{port}/v2/{path}", None if "live" in path else body)
            with pytest.raises(urllib.error.HTTPError, match="403"):
                urllib.request.urlopen(request, timeout=10)  # noqa: S310  # http, on loopback
        with Client(running.url("gRPC"), model="preprocess") as client:
            assert client.metadata()["model"]["name"] == "preprocess"


@pytest.fixture(scope="module")
def preprocess_server(plain_repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TritonServer]:
    """A server of ``preprocess`` alone."""
    folder = tmp_path_factory.mktemp("exposure")
    (folder / "preprocess").symlink_to(plain_repository / "preprocess")
    with TritonServer(ServerConfig(folder, port=0)) as running:
        yield running


def regions(server: TritonServer) -> list[Path]:
    """Its shared memory."""
    return list(Path("/dev/shm").glob(f"{server.log.parent.name}_*"))


def post(server: TritonServer, head: str, body: bytes) -> bytes:
    """Send a request to the model; returns how the response begins."""
    with socket.create_connection(("127.0.0.1", int(server.http_url.rpartition(":")[2])), 60) as connection:
        request = f"POST /v2/models/preprocess/infer HTTP/1.1\r\nHost: localhost\r\n{head}\r\n\r\n"
        connection.sendall(request.encode() + body)
        return connection.recv(100)


@pytest.mark.parametrize(
    ("head", "body"),
    [
        ("", NESTED % (b"[" * 200_000)),
        ("", NESTED % (b"[" * 200_000 + b"]" * 200_000)),
        ("Transfer-Encoding: chunked", b"1\r\na\r\n" * 600_000 + b"0\r\n\r\n"),
    ],
    ids=["brackets", "nested arrays", "chunks"],
)
def test_server_survives_deeply_nested_requests(preprocess_server: TritonServer, head: str, body: bytes) -> None:
    """Requests that would crash Triton 2.51 by a stack overflow are refused."""
    answer = post(preprocess_server, head or f"Content-Length: {len(body)}", body)
    assert answer.split()[1] in (b"400", b"500")
    with Client(preprocess_server.grpc_url, model="preprocess") as client:
        assert client.metadata()["model"]["name"] == "preprocess"


def test_shared_memory_is_its_owners(preprocess_server: TritonServer) -> None:
    """Another user could read the images in it otherwise."""
    found = regions(preprocess_server)
    assert found
    assert {stat.S_IMODE(region.stat().st_mode) for region in found} == {0o600}


def test_shared_memory_of_a_huge_request_is_given_back(preprocess_server: TritonServer) -> None:
    """Triton keeps what a request of 257 MiB needed; the watchdog replaces the worker, and others are answered."""
    tensor = triton.InferInput("IMAGE", [1, 1], "BYTES")
    with triton.InferenceServerClient(preprocess_server.grpc_url.removeprefix("grpc://")) as client:
        for content, reason in ((bytes(257 << 20), "bytes"), (b"no image", "not an image")):
            tensor.set_data_from_numpy(np.array([[content]], dtype=object))
            with pytest.raises(triton.InferenceServerException, match=reason):
                client.infer("preprocess", [tensor])
            wait_for(lambda: "keeps over 256 MiB of shared memory" in preprocess_server.log.read_text(), "no report")
    wait_for(
        lambda: sum(region.stat().st_blocks * 512 for region in regions(preprocess_server)) < 64 << 20,
        "the shared memory is still there",
    )
