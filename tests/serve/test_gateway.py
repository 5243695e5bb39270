"""The gateway in front of the real server, by real HTTP: what is answered, and what is refused."""

from __future__ import annotations

import contextlib
import gzip
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from corpus import Case
from gateway import WAIT_S, Gateway, Response, answer, form, head, running
from PIL import Image
from processes import of_server, wait_for
from resnet_client import Client
from resnet_serve import ServerConfig, TritonServer, ports
from resnet_serve.gateway.cli import main
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


def test_gateway_refuses_chunked_bodies(gateway: Gateway) -> None:
    """And the connection is closed, so that nothing more of it is parsed."""
    for path in ("/v1/classify", "/nowhere"):
        with gateway.connect() as connection:
            chunked = head(0).replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")
            connection.sendall(chunked.replace(b"/v1/classify", path.encode()))
            assert is_error(answer(connection), 411)
            assert connection.recv(1) == b""


def test_classify_takes_a_form(gateway: Gateway, cat: bytes) -> None:
    """One file in the field ``image``, with any name."""
    body, content_type = form(('name="image"; filename="../../c\\"at.jpg"', cat))
    response = gateway.post("/v1/classify?top_k=1", body, Content_Type=content_type)
    assert response.status == 200
    assert [prediction["label"] for prediction in response.body["predictions"]] == ["Egyptian cat"]


def test_embed_returns_the_features(gateway: Gateway, server: TritonServer, cat: bytes) -> None:
    """Equal to the bit to those of the client, as body and as form."""
    with Client(server.grpc_url) as client:
        expected = client.embed(cat).tolist()
    body, content_type = form(('name="image"; filename="a"', cat))
    for response in (gateway.post("/v1/embed", cat), gateway.post("/v1/embed", body, Content_Type=content_type)):
        assert (response.status, response.body) == (200, {"model": "resnet50", "features": expected})


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl here")
def test_curl_needs_no_options(gateway: Gateway, cat: bytes, tmp_path: Path) -> None:
    """The command of the README."""
    (tmp_path / "cat.jpg").write_bytes(cat)
    command = ["curl", "-sS", "--noproxy", "*", "--data-binary", "@cat.jpg", f"localhost:{gateway.port}/v1/classify"]
    shown = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=WAIT_S, check=True).stdout
    assert '"label":"Egyptian cat"' in shown


@pytest.mark.parametrize("top_k", ["1", "1000", "0007"])
def test_top_k_is_the_number_of_classes(gateway: Gateway, cat: bytes, top_k: str) -> None:
    """From one to a thousand."""
    response = gateway.post(f"/v1/classify?top_k={top_k}", cat)
    assert len(response.body["predictions"]) == int(top_k)


@pytest.mark.parametrize("top_k", ["0", "1001", "-1", "x", "", "1.5", "%D9%A3", "9" * 5000])
def test_gateway_refuses_invalid_top_k(gateway: Gateway, cat: bytes, top_k: str) -> None:
    """With the values that are valid."""
    assert is_error(gateway.post(f"/v1/classify?top_k={top_k}", cat), 400)


def test_gateway_refuses_unknown_parameters(gateway: Gateway, cat: bytes) -> None:
    """A misspelt one would otherwise have no effect."""
    response = gateway.post("/v1/classify?topk=1", cat)
    assert is_error(response, 400)
    assert "there is only top_k" in response.body["error"]


IMAGE = 'name="image"; filename="a"'
FORMS = {
    "no part": form(),
    "another field": form(('name="file"; filename="a"', b"x")),
    "no file name": form(('name="image"', b"x")),
    "no name": form(('filename="a"', b"x")),
    "two files": form((IMAGE, b"x"), (IMAGE, b"x")),
    "an additional text": form((IMAGE, b"x"), ('name="top_k"', b"3")),
    "an empty file": form((IMAGE, b"")),
    "no boundary": (form((IMAGE, b"x"))[0], "multipart/form-data"),
    "an empty boundary": (form((IMAGE, b"x"))[0], "multipart/form-data; boundary="),
    "another boundary": (form((IMAGE, b"x"))[0], "multipart/form-data; boundary=a"),
    "cut off": (form((IMAGE, b"x"))[0][:-8], "multipart/form-data; boundary=b0undary"),
    "a long head": form((f'{IMAGE}; a="{"b" * 100_000}"', b"x")),
    "many heads": form((f"{IMAGE}{chr(13)}{chr(10)}A: b" * 1000, b"x")),
    "a charset of no kind": (
        form(('name="\x80"', b"x"))[0],
        "multipart/form-data; boundary=b0undary; charset=undefined",
    ),
    "an empty body": (b"", "image/jpeg"),
}


@pytest.mark.parametrize("body", FORMS.values(), ids=FORMS)
def test_gateway_refuses_forms_without_exactly_one_image(gateway: Gateway, body: tuple[bytes, str]) -> None:
    """And so is an empty body."""
    assert is_error(gateway.post("/v1/classify", body[0], Content_Type=body[1]), 400)


@pytest.mark.parametrize("content_type", ["text/plain", "application/json", "text/html", "multipart/mixed; boundary=b"])
def test_other_content_types_are_refused(gateway: Gateway, cat: bytes, content_type: str) -> None:
    """A file with a wrong type is not guessed at."""
    assert is_error(gateway.post("/v1/classify", cat, Content_Type=content_type), 415)


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "gzip, gzip", "x"])
def test_compressed_bodies_are_refused(gateway: Gateway, cat: bytes, encoding: str) -> None:
    """Nothing is decompressed, so nothing can grow."""
    assert is_error(gateway.post("/v1/classify", gzip.compress(cat), Content_Encoding=encoding), 415)


def test_gateway_refuses_bodies_above_the_limit(gateway: Gateway) -> None:
    """As soon as its length is known; at the limit it is read."""
    limit = 2**20
    assert is_error(gateway.post("/v1/classify", bytes(limit)), 422)
    assert is_error(gateway.post("/v1/classify", bytes(limit + 1)), 413)
    body, content_type = form((IMAGE, bytes(limit)))
    assert is_error(gateway.post("/v1/classify", body, Content_Type=content_type), 413)
    with gateway.connect() as connection:
        connection.sendall(head(10 * 2**30))
        assert is_error(answer(connection), 413)


def test_odd_images_are_answered_or_refused(gateway: Gateway, corpus: list[Case]) -> None:
    """A part of the corpus: what a person sees is classified, the rest is refused with a plain message."""
    for image in corpus[::9]:
        response = gateway.post("/v1/classify", image.data)
        if len(image.data) > 2**20:
            assert is_error(response, 413), image.name
        elif image.seen is None:
            assert is_error(response, 422), image.name
            assert re.search(image.cause, response.body["error"]), image.name
        else:
            assert response.status == 200, image.name


@pytest.mark.parametrize("how", ["file", "variable"])
def test_gateway_requires_an_api_key_if_configured(server: TritonServer, tmp_path: Path, how: str) -> None:
    """For images, in either header; a wrong one is refused, and none of them gets into the log."""
    (tmp_path / "keys").write_text("\n".join(KEYS) + "\n")
    options = [f"--api-key-file={tmp_path / 'keys'}"] if how == "file" else []
    variables = {} if how == "file" else {"RESNET_GATEWAY_API_KEYS": ",".join(KEYS)}
    with running(server.grpc_url, tmp_path / "log", *options, **variables) as gateway:
        for path in ("/v1/classify", "/v1/embed"):
            for key in KEYS:
                assert is_error(gateway.post(path, b"no image", X_API_Key=key), 422)
                assert is_error(gateway.post(path, b"no image", Authorization=f"bearer {key}"), 422)
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
                refused = gateway.post(path, b"no image", **headers)
                assert is_error(refused, 401), headers
                assert refused.headers["www-authenticate"] == "Bearer"
        assert gateway.request("GET", "/healthz").status == 200
        log = gateway.log.read_text()
    assert " 401" in log
    assert not [key for key in KEYS if key in log]


FOREIGN_HOSTS = (
    "evil.example",
    "localhost.evil.example",
    "evil.example:80",
    "localhost:1:2",
    "a@localhost",
    "",
    "[::1",
)


@pytest.mark.parametrize("host", FOREIGN_HOSTS)
def test_requests_for_another_host_are_refused(gateway: Gateway, cat: bytes, host: str) -> None:
    """A page that has its own name lead to this machine gets nothing, not even the health."""
    assert is_error(gateway.post("/v1/classify", cat, Host=host), 421)
    assert is_error(gateway.request("GET", "/healthz", Host=host), 421)


def test_gateway_refuses_requests_without_a_host(gateway: Gateway) -> None:
    """HTTP/1.0 needs none, and two are not HTTP."""
    for request, status in (
        (b"GET /healthz HTTP/1.0\r\n\r\n", 421),
        (b"GET /healthz HTTP/1.1\r\n\r\n", 400),
        (b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n", 400),
    ):
        with gateway.connect() as connection:
            connection.sendall(request)
            assert is_error(answer(connection), status)


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:80", "127.0.0.1:8080", "[::1]:8080"])
def test_gateway_accepts_loopback_names(gateway: Gateway, host: str) -> None:
    """With any port, because a container's is published on another."""
    assert gateway.request("GET", "/healthz", Host=host).body == {"status": "ok"}


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://localhost", "file://", ""])
@pytest.mark.parametrize("content_type", [*TYPES, "text/plain"])
def test_pages_of_foreign_origins_are_refused(gateway: Gateway, cat: bytes, origin: str, content_type: str) -> None:
    """Whatever type of content needs no preflight; so is another port of this machine."""
    refused = gateway.post("/v1/classify", cat, Origin=origin, Content_Type=content_type)
    assert is_error(refused, 403)
    assert "access-control-allow-origin" not in refused.headers


def test_pages_of_the_gateways_own_origin_are_served(gateway: Gateway, cat: bytes) -> None:
    """For example, a page that a proxy serves under the same name."""
    response = gateway.post("/v1/classify", cat, Origin=f"http://127.0.0.1:{gateway.port}")
    assert response.status == 200


@pytest.fixture(scope="module")
def open_gateway(server: TritonServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway for pages of other origins and under another name; bodies may have 64 MiB."""
    options = ("--allowed-origins=https://app.example,http://other.example:81", "--allowed-hosts=Images.example")
    log = tmp_path_factory.mktemp("open_gateway") / "log"
    with running(server.grpc_url, log, "--max-body-mib=64", *options) as found:
        yield found


def test_allowed_hosts_and_origins_are_served(open_gateway: Gateway, cat: bytes) -> None:
    """And can read the response, after a preflight; others still cannot."""
    assert open_gateway.request("GET", "/healthz", Host="images.example:8080").status == 200
    asked = {"Access_Control_Request_Method": "POST", "Access_Control_Request_Headers": "content-type,x-api-key"}
    preflight = open_gateway.request("OPTIONS", "/v1/classify", Origin="https://app.example", **asked)
    response = open_gateway.post("/v1/classify", cat, Origin="https://app.example", Content_Type="image/jpeg")
    for allowed in (preflight, response):
        assert allowed.status == 200
        assert allowed.headers["access-control-allow-origin"] == "https://app.example"
    error = open_gateway.post("/v1/classify", b"x", Origin="https://app.example")
    assert is_error(error, 422)
    assert error.headers["access-control-allow-origin"] == "https://app.example"
    for origin in ("https://evil.example", "http://app.example", "https://app.example:81"):
        assert is_error(open_gateway.request("OPTIONS", "/v1/classify", Origin=origin, **asked), 403)
        assert is_error(open_gateway.post("/v1/classify", cat, Origin=origin), 403)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/", 404), ("GET", "/v1/classify", 405), ("POST", "/healthz", 405), ("GET", "/%1b%5b31m", 404)],
)
def test_unknown_paths_and_methods_are_refused(gateway: Gateway, method: str, path: str, status: int) -> None:
    """As JSON, too; control characters do not get into the log."""
    assert is_error(gateway.request(method, path), status)
    assert gateway.log.read_text().replace("\n", "").isprintable()


def test_docs_page_uses_no_other_server(gateway: Gateway) -> None:
    """No address of another server, no script; every operation of the document is on it, and exists."""
    page = gateway.request("GET", "/docs")
    document = gateway.request("GET", "/openapi.json").body
    assert page.status == 200
    assert page.headers["content-security-policy"].startswith("default-src 'none'")
    assert not re.search(r"https?:|src=|<script|//", page.body)
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            assert f"{method.upper()} {path}" in page.body
            response = gateway.request(method.upper(), path, b"" if method == "post" else None)
            assert str(response.status) in operation["responses"]


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


def test_bodies_in_flight_are_bounded_together(open_gateway: Gateway, cat: bytes) -> None:
    """128 MiB of announced bodies leave no room for another; no memory is taken for them."""
    before = open_gateway.resident_mib()
    with open_gateway.connect() as one, open_gateway.connect() as other:
        for connection in (one, other):
            connection.sendall(head(64 * 2**20))
        wait_for(lambda: open_gateway.post("/v1/classify", cat).status == 429, "the bodies are not counted")
        assert open_gateway.resident_mib() < before + 20
    wait_for(lambda: open_gateway.post("/v1/classify", cat).status == 200, "the bodies are still counted")


def _with_a_queue_of_one(config: pb.ModelConfig) -> None:
    config.parameters["max_queue_size"].string_value = "1"


@pytest.fixture(scope="module")
def own_server(repository_copy: Any) -> Iterator[TritonServer]:
    """A server that the last test of it kills; one image may wait there, and labels have control characters."""
    for model in ("resnet50", "network_onnx"):
        repository_copy.add(model)
    repository_copy.add("preprocess", change=_with_a_queue_of_one)
    labels = repository_copy.folder / "resnet50/labels.txt"
    labels.unlink()  # it may be a link to the built repository's
    labels.write_text("\x1b[31mcat\x07\N{RIGHT-TO-LEFT OVERRIDE}\n" * 1000, encoding="utf-8")
    with TritonServer(ServerConfig(repository_copy.folder, port=0)) as server:
        yield server


def test_gateway_answers_429_if_the_server_is_overloaded(own_server: TritonServer, cat: bytes, tmp_path: Path) -> None:
    """The server's own refusal is passed on; what it accepts is answered, with control characters escaped."""
    found: list[Response] = []
    with running(own_server.grpc_url, tmp_path / "log") as gateway:

        def call() -> None:
            found.extend(gateway.post("/v1/classify?top_k=1", cat) for _ in range(8))

        alone = gateway.post("/v1/classify?top_k=1", cat)
        assert alone.body["predictions"][0]["label"] == r"\u001b[31mcat\u0007\u202e"
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
    """504 while it is halted, 503 once it is gone; the gateway lives on."""
    with running(own_server.grpc_url, tmp_path / "log", "--timeout-s=1") as gateway:
        assert gateway.request("GET", "/readyz").body == {"status": "ready"}
        pid = of_server(own_server)
        os.kill(pid, signal.SIGSTOP)
        assert is_error(gateway.post("/v1/classify", cat), 504)
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda: gateway.post("/v1/classify", cat).status == 503, "the server seems to live")
        for response in (gateway.post("/v1/classify", cat), gateway.request("GET", "/readyz")):
            assert is_error(response, 503)
            assert response.headers["retry-after"] == "1"
        assert gateway.request("GET", "/healthz").status == 200


def test_too_many_connections_are_refused(open_gateway: Gateway, cat: bytes) -> None:
    """The 513th; once others are closed, new ones are accepted."""
    with contextlib.ExitStack() as connections:
        for _ in range(512):
            connections.enter_context(open_gateway.connect())
        with open_gateway.connect() as connection:
            assert is_error(answer(connection), 503)

    def is_served() -> bool:
        with contextlib.suppress(ConnectionError):  # refused before it was sent
            return open_gateway.post("/v1/classify", cat).status == 200
        return False

    wait_for(is_served, "no request is served")


def test_slow_requests_are_cut_off(server: TritonServer, cat: bytes, tmp_path: Path) -> None:
    """A head or a body that does not end is 408; a connection that sends nothing is closed; others go on."""
    with running(server.grpc_url, tmp_path / "log", "--timeout-s=1") as gateway:
        starts = (head(100)[:20], head(100) + b"x", head(2 * 2**30) + b"x")
        connections = [gateway.connect() for _ in range(len(starts) + 1)]
        for connection, start in zip(connections, starts, strict=False):
            connection.sendall(start)
        assert gateway.post("/v1/classify", cat).status == 200
        head_cut, body_cut, refused, silent = connections
        assert is_error(answer(head_cut), 408)
        assert is_error(answer(body_cut), 408)
        assert is_error(answer(refused), 413)
        for connection in (head_cut, body_cut, refused, silent):
            assert connection.recv(1) == b""
            connection.close()
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
        wait_for(lambda: not ports.accepts("127.0.0.1", gateway.port, timeout_s=WAIT_S), "it still listens")
        while connection.recv(1) != b"\n" or connection.recv(2) != b"\r\n":
            pass
        connection.sendall(cat)
        assert answer(connection).status == 200
        assert gateway.process.wait(WAIT_S) == 0


def test_gateway_logs_no_image(gateway: Gateway) -> None:
    """The log also has no file names, and no content of valid or invalid forms."""
    secret = b"tAtt00-0f-a-b1ue-heron"
    gateway.post("/v1/classify", secret)
    for body, content_type in (
        form((f'name="image"; filename="{secret.decode()}"', secret)),
        (secret, FORMS["cut off"][1]),
    ):
        gateway.post("/v1/classify", body, Content_Type=content_type)
    assert secret[:6] not in gateway.log.read_bytes()


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--port=70000"], 2, "expected an integer from 0 to 65535"),
        (["--host=192.0.2.1"], 3, "choose another --host, or another --port"),
        (["--url=nonsense"], 2, "nonsense"),
        (["--max-body-mib=0"], 2, "from 1 to 128"),
        (["--api-key-file=/missing"], 3, "/missing"),
        (["--api-key-file=/dev/null"], 2, "expected one key per line"),
    ],
)
def test_gateway_names_a_wrong_option(
    options: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before anything listens."""
    try:
        ended = main(["--port=0", *options])
    except SystemExit as exc:  # of the parser
        ended = exc.code
    printed = capsys.readouterr()
    assert (ended, printed.out) == (code, "")
    assert message in printed.err


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
