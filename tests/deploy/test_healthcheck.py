"""The container's healthcheck against a stub of the server: which answers count."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "deploy/compose/healthcheck.py"
OVERLOADED = "in ensemble 'resnet50', [overload] 64 images are waiting already; retry later"


class Stub(ThreadingHTTPServer):
    """Is ready, and answers each photo alike."""

    status, answer = 200, json.dumps({"outputs": [{"data": ["0.5:281:tabby"]}]})

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    """Triton's HTTP, as far as the healthcheck speaks it."""

    server: Stub

    def do_GET(self) -> None:
        """Be ready."""
        self._answer(200, "")

    def do_POST(self) -> None:
        """Answer a photo as the stub was told."""
        self.rfile.read(int(self.headers["Content-Length"]))
        self._answer(self.server.status, self.server.answer)

    def _answer(self, status: int, text: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def stub() -> Iterator[Stub]:
    """One that runs until the test ends."""
    with Stub(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def check(url: str, **environment: str) -> int:
    """Run it as the container does; its exit code."""
    command = [sys.executable, str(SCRIPT), url]
    variables = {**os.environ, **environment}
    return subprocess.run(command, env=variables, capture_output=True, timeout=60, check=False).returncode


@pytest.mark.parametrize(
    ("status", "sentence", "code"),
    [
        (503, OVERLOADED, 0),
        (503, "in ensemble 'resnet50', request for unavailable model", 1),
        (500, OVERLOADED, 1),
        (500, "Stub process 'preprocess_0_0' is not healthy.", 1),
    ],
)
def test_a_refusal_under_overload_is_an_answer(stub: Stub, status: int, sentence: str, code: int) -> None:
    """A server that has too much to do is not taken out of service; one that fails is."""
    stub.status, stub.answer = status, json.dumps({"error": sentence})
    assert check(stub.url) == code


def test_its_own_container_is_asked_without_a_proxy(stub: Stub) -> None:
    """Variables of a proxy, and an exception for the loopback that urllib does not understand, change nothing."""
    assert check(stub.url, http_proxy="http://127.0.0.1:1", no_proxy="127.0.0.0/8") == 0
