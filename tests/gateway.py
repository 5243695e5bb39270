"""A gateway in a process of its own, and requests to it that no HTTP library changes."""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

WAIT_S = 30


@dataclasses.dataclass(frozen=True)
class Response:
    """What came back.

    Attributes:
        status: the number.
        body: the JSON, or the text where there is none.
        headers: their names in lower case.
    """

    status: int
    body: Any
    headers: Mapping[str, str]


@dataclasses.dataclass(frozen=True)
class Gateway:
    """A running gateway.

    Attributes:
        process: ``resnet-serve gateway``.
        port: where it listens, on 127.0.0.1.
        log: what it writes to standard error.
    """

    process: subprocess.Popen[str]
    port: int
    log: Path

    def post(self, path: str, body: object, **headers: str) -> Response:
        """Send a body; ``_`` in the names of headers stands for ``-``."""
        return self.request("POST", path, body, **headers)

    def request(self, method: str, path: str, body: object = None, **headers: str) -> Response:
        """Send any request."""
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=WAIT_S)) as connection:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, body, named)
            return read(connection.getresponse())

    def connect(self) -> socket.socket:
        """Open a connection, for what is not to be HTTP."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=WAIT_S)

    def resident_mib(self) -> float:
        """Memory of the process in MiB."""
        return int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]) * 4096 / 2**20


def read(response: http.client.HTTPResponse) -> Response:
    """Read a response to its end."""
    text = response.read().decode()
    headers = {name.lower(): value for name, value in response.getheaders()}
    is_json = headers.get("content-type") == "application/json"
    return Response(response.status, json.loads(text) if is_json else text, headers)


def answer(connection: socket.socket) -> Response:
    """Read the response on a connection."""
    response = http.client.HTTPResponse(connection)
    response.begin()
    return read(response)


def head(length: int, *lines: str) -> bytes:
    """Return the head of a request for a classification."""
    return "\r\n".join(
        ["POST /v1/classify HTTP/1.1", "Host: localhost", f"Content-Length: {length}", *lines, "", ""]
    ).encode()


def form(*parts: tuple[str, bytes], boundary: str = "b0undary") -> tuple[bytes, str]:
    """Return a form's body and content type; each part has the parameters of its disposition, and its content."""
    body = b"".join(
        f"--{boundary}\r\nContent-Disposition: form-data; {parameters}\r\n\r\n".encode() + content + b"\r\n"
        for parameters, content in parts
    )
    return body + f"--{boundary}--\r\n".encode(), f"multipart/form-data; boundary={boundary}"


@contextlib.contextmanager
def running(url: str, log: Path, *options: str, **variables: str) -> Iterator[Gateway]:
    """Start ``resnet-serve gateway`` on a free port, and end it whatever happens."""
    command = [sys.executable, "-m", "resnet_serve", "gateway", "--port", "0", "--url", url, *options]
    environment = {**os.environ, **variables}
    with log.open("w") as stream:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stream, text=True, env=environment)
    assert process.stdout is not None
    try:
        found = re.match(r"http://127\.0\.0\.1:(\d+) ", process.stdout.readline())
        assert found, log.read_text()
        yield Gateway(process, int(found[1]), log)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait(WAIT_S)
        process.stdout.close()
