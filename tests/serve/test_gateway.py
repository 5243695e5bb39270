"""The gateway in front of the real server, by real HTTP: what is answered, and what is refused."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import processes
import pytest
import yaml
from gateway import WAIT_S, Gateway, Response, answer, head, running
from PIL import Image
from processes import wait_for
from resnet_client import Client
from resnet_serve import ServerConfig, TritonServer
from tritonclient.grpc import model_config_pb2 as pb

KEYS = ("first-key-0123456789", "second-key-0123456789")
INTERNAL = re.compile(
    r"/(tmp|dev|home|work|usr)|shm|region|0x|grpc|tensor|ensemble|preprocess|Traceback|\.py", re.IGNORECASE
)


@pytest.fixture(scope="module")
def cat(images: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """An image of a cat, as JPEG."""
    path = tmp_path_factory.mktemp("cat") / "cat.jpg"
    Image.open(images["cat"]).save(path, quality=95)
    return path.read_bytes()


@pytest.fixture(scope="module")
def gateway(server: TritonServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway with the default limits, but for the body's, which is 1 MiB."""
    log = tmp_path_factory.mktemp("gateway") / "log"
    with running(server.grpc_url, log, "--max-body-mib=1") as found:
        yield found


def is_error(response: Response, status: int) -> bool:
    """Whether it is an error as all are: JSON with one message that names nothing inside."""
    message = response.body["error"]
    assert list(response.body) == ["error"]
    assert message.isprintable()
    assert not INTERNAL.search(message)
    return response.status == status


TYPES = ("image/jpeg", "IMAGE/JPEG; q=1", "application/octet-stream", "application/x-www-form-urlencoded")


@pytest.mark.parametrize("content_type", TYPES)
def test_classify_takes_the_file_as_body(gateway: Gateway, server: TritonServer, cat: bytes, content_type: str) -> None:
    """The response is that of the client, whatever content type the request has."""
    with Client(server.grpc_url) as client:
        expected = client.classify(cat).to_dict()
    response = gateway.post("/v1/classify", cat, Content_Type=content_type)
    assert (response.status, response.body) == (200, expected)
    assert response.body["predictions"][0]["label"] == "Egyptian cat"


def test_embed_returns_the_features(gateway: Gateway, server: TritonServer, cat: bytes) -> None:
    """Equal to the bit to those of the client."""
    with Client(server.grpc_url) as client:
        expected = client.embed(cat).tolist()
    response = gateway.post("/v1/embed", cat)
    assert (response.status, response.body) == (200, {"model": "resnet50", "features": expected})


@pytest.mark.parametrize("top_k", ["1", "1000", "0007"])
def test_top_k_is_the_number_of_classes(gateway: Gateway, cat: bytes, top_k: str) -> None:
    """From one to a thousand."""
    response = gateway.post(f"/v1/classify?top_k={top_k}", cat)
    assert len(response.body["predictions"]) == int(top_k)


CLASSIFY = "POST /v1/classify"


@pytest.mark.parametrize(
    ("line", "headers", "status"),
    [
        *((f"{CLASSIFY}?top_k={value}", {}, 400) for value in ("0", "1001", "x", "", "%D9%A3", "9" * 5000)),
        *((CLASSIFY, {"Content_Type": value}, 415) for value in ("text/plain", "multipart/form-data; a=b")),
        *((CLASSIFY, {"Content_Encoding": value}, 415) for value in ("gzip", "br", "gzip, gzip")),
        *(
            ("GET /healthz", {"Host": value}, 421)
            for value in ("evil.example:80", "localhost.evil.example", "localhost:1:2", "a@localhost", "", "[::1")
        ),
        *(
            (CLASSIFY, {"Origin": value}, 403)
            for value in ("http://evil.example", "null", "http://localhost", "file://", "")
        ),
        ("GET /", {}, 404),
        ("GET /%1b%5b31m", {}, 404),
        ("GET /v1/classify", {}, 405),
        ("POST /healthz", {}, 405),
    ],
)
def test_gateway_refuses_a_request(
    gateway: Gateway, cat: bytes, line: str, headers: dict[str, str], status: int
) -> None:
    """Other hosts and origins get nothing, and no type is guessed; the log stays printable."""
    method, path = line.split()
    refused = gateway.request(method, path, cat if method == "POST" else None, **headers)
    assert is_error(refused, status)
    assert "access-control-allow-origin" not in refused.headers
    assert gateway.log.read_text().replace("\n", "").isprintable()


def test_gateway_refuses_an_empty_body(gateway: Gateway) -> None:
    """The message states that the image is missing."""
    assert is_error(gateway.post("/v1/classify", b""), 400)


@pytest.mark.parametrize(
    ("request_head", "status"),
    [
        (head(0).replace(b"Content-Length: 0", b"Transfer-Encoding: chunked"), 411),
        (b"GET /healthz HTTP/1.0\r\n\r\n", 421),
        (b"GET /healthz HTTP/1.1\r\n\r\n", 400),
        (b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n", 400),
    ],
)
def test_gateway_refuses_a_request_by_its_head(gateway: Gateway, request_head: bytes, status: int) -> None:
    """Chunked bodies and requests without exactly one host end the connection, so nothing more of it is parsed."""
    with gateway.connect() as connection:
        connection.sendall(request_head)
        assert answer(connection).status == status
        assert connection.recv(1) == b""


def test_gateway_refuses_bodies_above_the_limit(gateway: Gateway) -> None:
    """As soon as the length is known; a body at the limit is read."""
    limit = 2**20
    assert is_error(gateway.post("/v1/classify", bytes(limit)), 422)
    assert is_error(gateway.post("/v1/classify", bytes(limit + 1)), 413)
    with gateway.connect() as connection:
        connection.sendall(head(10 * 2**30))
        assert is_error(answer(connection), 413)


def test_gateway_requires_an_api_key_if_configured(server: TritonServer, cat: bytes, tmp_path: Path) -> None:
    """For images, in either header; an invalid key is refused, and no key gets into the log."""
    with running(server.grpc_url, tmp_path / "log", RESNET_GATEWAY_API_KEYS=",".join(KEYS)) as gateway:
        for path in ("/v1/classify", "/v1/embed"):
            for key in KEYS:
                assert gateway.post(path, cat, X_API_Key=key).status == 200
                assert gateway.post(path, cat, Authorization=f"bearer {key}").status == 200
            for headers in (
                {},
                {"X_API_Key": KEYS[0][:-1]},
                {"X_API_Key": f"{KEYS[0]}x"},
                {"X_API_Key": ",".join(KEYS)},
                {"X_API_Key": "\xff"},
                {"Authorization": KEYS[0]},
                {"Authorization": f"Basic {KEYS[0]}"},
                {"Authorization": "Bearer "},
            ):
                refused = gateway.post(path, cat, **headers)
                assert is_error(refused, 401), headers
                assert refused.headers["www-authenticate"] == "Bearer"
        assert gateway.request("GET", "/healthz").status == 200
        log = gateway.log.read_text()
    assert " 401" in log
    assert not [key for key in KEYS if key in log]


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:80", "127.0.0.1:8080", "[::1]:8080"])
def test_gateway_accepts_loopback_names(gateway: Gateway, host: str) -> None:
    """With any port, because a container's is published on another."""
    assert gateway.request("GET", "/healthz", Host=host).body == {"status": "ok"}


def test_pages_of_the_gateways_own_origin_are_served(gateway: Gateway, cat: bytes) -> None:
    """For example, a page that a proxy serves under the same name."""
    response = gateway.post("/v1/classify", cat, Origin=f"http://127.0.0.1:{gateway.port}")
    assert response.status == 200


def test_allowed_hosts_and_origins_are_served(server: TritonServer, cat: bytes, tmp_path: Path) -> None:
    """And can read the response, after a preflight; others still cannot."""
    options = ("--allowed-origins=https://app.example,http://other.example:81", "--allowed-hosts=Images.example")
    with running(server.grpc_url, tmp_path / "log", *options) as gateway:
        assert gateway.request("GET", "/healthz", Host="images.example:8080").status == 200
        asked = {"Access_Control_Request_Method": "POST", "Access_Control_Request_Headers": "content-type,x-api-key"}
        preflight = gateway.request("OPTIONS", "/v1/classify", Origin="https://app.example", **asked)
        response = gateway.post("/v1/classify", cat, Origin="https://app.example", Content_Type="image/jpeg")
        for allowed in (preflight, response):
            assert allowed.status == 200
            assert allowed.headers["access-control-allow-origin"] == "https://app.example"
        error = gateway.post("/v1/classify", b"x", Origin="https://app.example")
        assert is_error(error, 422)
        assert error.headers["access-control-allow-origin"] == "https://app.example"
        for origin in ("https://evil.example", "http://app.example", "https://app.example:81"):
            assert is_error(gateway.request("OPTIONS", "/v1/classify", Origin=origin, **asked), 403)
            assert is_error(gateway.post("/v1/classify", cat, Origin=origin), 403)


def test_openapi_describes_every_operation(gateway: Gateway) -> None:
    """Each described operation exists, with the response fields that the schema names, and errors as JSON."""
    response = gateway.request("GET", "/openapi.yaml")
    assert (response.status, response.headers["content-type"]) == (200, "application/yaml")
    document = yaml.safe_load(response.body)
    assert set(document["paths"]) == {"/v1/classify", "/v1/embed", "/healthz", "/readyz"}
    for path, methods in document["paths"].items():
        ((method, operation),) = methods.items()
        status = gateway.request(method.upper(), path, b"" if method == "post" else None).status
        assert status == (400 if method == "post" else 200)
        assert operation["summary"]


def test_too_many_requests_at_once_are_refused(server: TritonServer, cat: bytes, tmp_path: Path) -> None:
    """While one is in flight, a second is refused with the advice to retry; the first is answered."""
    with (
        running(server.grpc_url, tmp_path / "log", "--max-in-flight=1") as gateway,
        gateway.connect() as connection,
    ):
        connection.sendall(head(len(cat)) + cat[:100])
        refused: list[Response] = []

        def is_refused() -> bool:
            refused.append(gateway.post("/v1/classify", cat))
            return refused[-1].status == 429

        wait_for(is_refused, "no request is refused")
        assert is_error(refused[-1], 429)
        assert refused[-1].headers["retry-after"] == "1"
        assert gateway.request("GET", "/healthz").status == 200
        connection.sendall(cat[100:])
        assert answer(connection).status == 200
        assert gateway.post("/v1/classify", cat).status == 200


def test_bodies_in_flight_are_bounded_together(server: TritonServer, cat: bytes, tmp_path: Path) -> None:
    """128 MiB of announced bodies leave no room for another; no memory is taken for them."""
    with running(server.grpc_url, tmp_path / "log", "--max-body-mib=64") as gateway:
        before = gateway.resident_mib()
        with gateway.connect() as one, gateway.connect() as other:
            for connection in (one, other):
                connection.sendall(head(64 * 2**20))
            wait_for(lambda: gateway.post("/v1/classify", cat).status == 429, "the status does not change")
            assert gateway.resident_mib() < before + 20
        wait_for(lambda: gateway.post("/v1/classify", cat).status == 200, "the status does not change")


def _with_a_queue_of_one(config: pb.ModelConfig) -> None:
    config.parameters["max_queue_size"].string_value = "1"


@pytest.fixture(scope="module")
def own_server(repository_copy: Any) -> Iterator[TritonServer]:
    """A server that may be killed, where one image may wait."""
    for model in ("resnet50", "network_onnx"):
        repository_copy.add(model)
    repository_copy.add("preprocess", change=_with_a_queue_of_one)
    with TritonServer(ServerConfig(repository_copy.folder, port=0)) as server:
        yield server


def test_gateway_answers_429_if_the_server_is_overloaded(own_server: TritonServer, cat: bytes, tmp_path: Path) -> None:
    """The gateway passes on the server's refusals; the server still counts as ready."""
    found: list[Response] = []
    with running(own_server.grpc_url, tmp_path / "log") as gateway:

        def call() -> None:
            found.extend(gateway.post("/v1/classify?top_k=1", cat) for _ in range(8))

        callers = [threading.Thread(target=call) for _ in range(16)]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join()
        assert gateway.request("GET", "/readyz").status == 200
    refused = [response for response in found if response.status != 200]
    assert refused  # the others were answered
    for response in refused:
        assert is_error(response, 429)
        assert response.headers["retry-after"] == "1"


def test_gateway_reports_a_silent_or_killed_server(own_server: TritonServer, cat: bytes, tmp_path: Path) -> None:
    """504 while the server is suspended, 503 when it is killed; the gateway goes on."""
    with running(own_server.grpc_url, tmp_path / "log", "--timeout-s=2") as gateway:
        assert gateway.request("GET", "/readyz").body == {"status": "ready"}
        pid = processes.of_server(own_server)
        os.kill(pid, signal.SIGSTOP)
        assert is_error(gateway.post("/v1/classify", cat), 504)
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda: gateway.post("/v1/classify", cat).status == 503, "the status does not change")
        for response in (gateway.post("/v1/classify", cat), gateway.request("GET", "/readyz")):
            assert is_error(response, 503)
            assert response.headers["retry-after"] == "1"
        assert gateway.request("GET", "/healthz").status == 200


def test_too_many_connections_are_refused(server: TritonServer, cat: bytes, tmp_path: Path) -> None:
    """The 513th is closed; when others are closed, new ones are accepted."""
    with running(server.grpc_url, tmp_path / "log") as gateway:
        with contextlib.ExitStack() as connections:
            for _ in range(512):
                connections.enter_context(gateway.connect())
            with gateway.connect() as connection:
                assert connection.recv(1) == b""

        def is_served() -> bool:
            with contextlib.suppress(ConnectionError):  # refused before it was sent
                return gateway.post("/v1/classify", cat).status == 200
            return False

        wait_for(is_served, "no connection is accepted")


def test_gateway_closes_slow_connections(server: TritonServer, cat: bytes, tmp_path: Path) -> None:
    """A head or a body that does not end, or a connection without a request, is closed; others are served."""
    with (
        running(server.grpc_url, tmp_path / "log", "--timeout-s=1") as gateway,
        contextlib.ExitStack() as connections,
    ):
        opened = []
        for start in (head(100)[:20], head(100) + b"x", b""):
            opened.append(connections.enter_context(gateway.connect()))
            opened[-1].sendall(start)
        assert gateway.post("/v1/classify", cat).status == 200
        assert [connection.recv(1) for connection in opened] == [b""] * 3
        assert "Traceback" not in gateway.log.read_text()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_gateway_finishes_running_requests_on_a_signal(
    server: TritonServer, cat: bytes, tmp_path: Path, number: signal.Signals
) -> None:
    """Idle connections are closed, new ones refused, and the exit code is 0."""
    with running(server.grpc_url, tmp_path / "log") as gateway, gateway.connect() as connection, gateway.connect():
        connection.sendall(head(len(cat), "Expect: 100-continue"))
        assert connection.recv(12) == b"HTTP/1.1 100"  # it reads the body now
        gateway.process.send_signal(number)
        wait_for(lambda: not listens(gateway), "the status does not change")
        while connection.recv(1) != b"\n" or connection.recv(2) != b"\r\n":
            pass
        connection.sendall(cat)
        assert answer(connection).status == 200
        assert gateway.process.wait(WAIT_S) == 0


def listens(gateway: Gateway) -> bool:
    """Whether a connection is accepted."""
    try:
        gateway.connect().close()
    except ConnectionRefusedError:
        return False
    return True


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--port=70000"], 2, "expected an integer from 0 to 65535"),
        (["--host=192.0.2.1"], 3, "could not start"),
        (["--url=nonsense"], 2, "nonsense"),
        (["--max-body-mib=0"], 2, "from 1 to 128"),
    ],
)
def test_gateway_names_a_wrong_option(options: list[str], code: int, message: str) -> None:
    """Before anything listens."""
    command = [sys.executable, "-m", "resnet_serve", "gateway", "--port=0", *options]
    result = subprocess.run(command, capture_output=True, text=True, timeout=WAIT_S, check=False)
    assert (result.returncode, result.stdout) == (code, "")
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_gateway_needs_its_own_extra_only(server: TritonServer, cat: bytes) -> None:
    """It needs neither torch nor the server's packages; without its own packages it names the extra."""
    absent = (
        "import sys; sys.modules.update(dict.fromkeys({!r})); from resnet_serve.__main__ import main; sys.exit(main())"
    )
    command = [sys.executable, "-c", absent.format(["starlette"]), "gateway", "--port=0"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=WAIT_S, check=False)
    expected = "resnet-serve gateway: starlette is not installed: pip install '.[gateway]' in the project's folder\n"
    assert (result.returncode, result.stderr) == (2, expected)
    script = "import resnet_serve.gateway.app, sys; print({'torch', 'pytriton', 'pydantic'} & set(sys.modules))"
    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=WAIT_S, check=True)
    assert shown.stdout == "set()\n"
