"""The benchmark's load generator against a server whose answers are known."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from benchmarks.closed_loop import Send, answers, measure
from benchmarks.doors import HttpDoor
from benchmarks.triton_requests import plain_http

CALLERS = 4


class Batching:
    """A door behind which all who wait are answered together, 20 ms after the first of them has asked."""

    photos = 3

    def __init__(self) -> None:
        self.sent: list[int] = []
        self._waiting: list[asyncio.Future[bytes]] = []

    @contextlib.asynccontextmanager
    async def caller(self) -> AsyncIterator[Send]:
        """Connect."""

        async def send(number: int) -> bytes:
            self.sent.append(number)
            answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
            self._waiting.append(answer)
            if len(self._waiting) == 1:
                asyncio.get_running_loop().call_later(0.02, self._reply)
            return await answer

        yield send

    def _reply(self) -> None:
        batch, self._waiting = self._waiting, []
        for answer in batch:
            answer.set_result(b"")


def test_throughput_and_latency_agree() -> None:
    """Callers who never pause are under way all the time: throughput times latency is their number (Little's law)."""
    sample = measure(Batching(), callers=CALLERS, seconds=0.3, warm_s=0.05)
    assert sample.throughput * float(np.mean(sample.latencies_s)) == pytest.approx(CALLERS, rel=0.05)


def test_photos_take_turns() -> None:
    """Every photo is sent about as often as every other."""
    door = Batching()
    measure(door, callers=CALLERS, seconds=0.2, warm_s=0.05)
    counts = np.bincount(door.sent, minlength=door.photos)
    assert counts.min() >= counts.max() - CALLERS


def test_looks_while_the_callers_are_calling() -> None:
    """The servers' CPU time is read at both ends of the measured time, once each."""
    looks: list[str] = []
    measure(
        Batching(),
        callers=CALLERS,
        seconds=0.05,
        warm_s=0.05,
        start=lambda: looks.append("start"),
        end=lambda: looks.append("end"),
    )
    assert looks == ["start", "end"]


class Echo(BaseHTTPRequestHandler):
    """Answers with the body; refuses a body of `no`."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """Answer."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(503 if body == b"no" else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def port() -> Iterator[int]:
    """A server in a thread of its own, because the generator has a loop of its own."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Echo) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def test_answers_are_those_of_the_photos(port: int) -> None:
    """Over HTTP each request gets its own answer, in order."""
    bodies = [b"first", b"second"]
    assert answers(HttpDoor(port, [plain_http("/", body) for body in bodies])) == bodies


def test_a_refusal_ends_the_measurement(port: int) -> None:
    """A server that refuses is not measured as if it were fast."""
    with pytest.raises(OSError, match="503"):
        measure(HttpDoor(port, [plain_http("/", b"no")]), callers=2, seconds=0.2, warm_s=0.05)
