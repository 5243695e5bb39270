"""The benchmark's load generator against a server whose responses are known."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from benchmarks.closed_loop import Send, measure, responses
from benchmarks.senders import HttpSender, post

CALLERS = 4


class Batching:
    """Requests are answered together, 20 ms after the first of them was sent."""

    image_count = 3

    def __init__(self) -> None:
        self.sent: list[int] = []
        self._waiting: list[asyncio.Future[bytes]] = []

    @contextlib.asynccontextmanager
    async def connect(self) -> AsyncIterator[Send]:
        """Connect."""

        async def send(number: int) -> bytes:
            self.sent.append(number)
            response: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
            self._waiting.append(response)
            if len(self._waiting) == 1:
                asyncio.get_running_loop().call_later(0.02, self._reply)
            return await response

        yield send

    def _reply(self) -> None:
        batch, self._waiting = self._waiting, []
        for response in batch:
            response.set_result(b"")


def test_measure_obeys_littles_law() -> None:
    """Callers that never pause always have a request in flight: throughput times latency is their number."""
    sample = measure(Batching(), callers=CALLERS, seconds=0.3, warm_s=0.05)
    assert sample.throughput * float(np.mean(sample.latencies_s)) == pytest.approx(CALLERS, rel=0.05)


def test_measure_sends_the_images_in_turns() -> None:
    """Every image is sent about as often as every other."""
    sender = Batching()
    measure(sender, callers=CALLERS, seconds=0.2, warm_s=0.05)
    counts = np.bincount(sender.sent, minlength=sender.image_count)
    assert counts.min() >= counts.max() - CALLERS


class Echo(BaseHTTPRequestHandler):
    """Responds with the body; refuses a body of `no`."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """Respond."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(503 if body == b"no" else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


@pytest.fixture
def port() -> Iterator[int]:
    """A server in a thread of its own, because the generator has a loop of its own."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Echo) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def test_responses_are_in_the_order_of_the_images(port: int) -> None:
    """Over HTTP each request gets its own response."""
    bodies = [b"first", b"second"]
    assert responses(HttpSender(port, [post("/", body) for body in bodies])) == bodies


def test_measure_raises_on_a_refusal(port: int) -> None:
    """A server that refuses is not measured as if it were fast."""
    with pytest.raises(OSError, match="503"):
        measure(HttpSender(port, [post("/", b"no")]), callers=2, seconds=0.2, warm_s=0.05)
