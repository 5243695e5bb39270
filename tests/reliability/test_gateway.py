"""A thousand malformed HTTP requests: the gateway and the server behind it live on and go on answering."""

from __future__ import annotations

import collections
import contextlib
import functools
import gzip
import http.client
import json
import random
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from gateway import Gateway, answer, form, head, running
from processes import of_server, resident_mib
from resnet_serve import TritonServer

pytestmark = pytest.mark.reliability

REQUESTS = 1_000
AT_ONCE = 40
HELD = 20
# Above the memory after the first image.
MOST_MIB = 100

_START = b"POST /v1/classify HTTP/1.1\r\nHost: localhost\r\n"
_CHUNKED = _START + b"Transfer-Encoding: chunked\r\n\r\n"


def noise(dice: random.Random) -> bytes:
    """Bytes that are not HTTP, or hardly."""
    return dice.choice([b"", b"GET ", _START, b"\x16\x03\x01", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"]) + dice.randbytes(
        dice.randrange(4_000)
    )


def chunks(dice: random.Random) -> bytes:
    """Chunks of wrong sizes, too many, or with too long extensions."""
    size = dice.choice([b"-1", b"g", b"", b"f" * 16, b"f" * 40, b"0x5", b"5;" + b"e" * 70_000, b"5\n", b" 5"])
    return _CHUNKED + dice.choice(
        [size + b"\r\n12345\r\n0\r\n\r\n", b"5\r\n12345", b"1\r\nx\r\n" * 20_000, b"3\r\n12345\r\n0\r\n\r\n"]
    )


def lengths(dice: random.Random) -> bytes:
    """Lengths that are too large, not numbers, contradictory, or not kept."""
    length = dice.choice(
        [b"10737418240", b"9" * 25, b"9" * 5_000, b"-1", b"+5", b"5, 6", b"5\r\nContent-Length: 6", b""]
    )
    return (
        _START
        + b"Content-Length: "
        + length
        + dice.choice([b"\r\n\r\n", b"\r\nTransfer-Encoding: chunked\r\n\r\n"])
        + b"12345"
    )


def compressed(dice: random.Random) -> bytes:
    """10 MiB of zeros in 10 KB, in all the places that may decompress them."""
    body = gzip.compress(bytes(10 * 2**20), 9)
    line = dice.choice(["Content-Encoding: gzip", "Transfer-Encoding: gzip", "Transfer-Encoding: gzip, chunked"])
    return head(len(body), line) + body


def nested(dice: random.Random) -> bytes:
    """Deep JSON, and tensors of Triton's protocol whose shape wraps to 0 bytes."""
    tensor = {"name": "IMAGE", "shape": [2**61], "datatype": "FP64", "data": list(range(10))}
    body = dice.choice([b"[" * 200_000, b'{"a":' * 40_000, json.dumps({"inputs": [tensor]}).encode()])
    kind = dice.choice(["application/json", "text/plain", "application/octet-stream", "image/jpeg"])
    request = head(len(body), f"Content-Type: {kind}") + body
    return request.replace(b"/v1/classify", dice.choice([b"/v1/classify", b"/v2/models/resnet50/infer", b"/v1/embed"]))


def forms(dice: random.Random) -> bytes:
    """Forms with broken boundaries, heads and parts."""
    body, kind = form(*[('name="image"; filename="a"', dice.randbytes(200))] * dice.choice([1, 2, 5_000]))
    cut = dice.randrange(len(body))
    body = dice.choice([body[:cut], body[cut:], body.replace(b"\r\n", b"\n"), b"\r\n--" * 300_000, body])
    kind = dice.choice([kind, kind.partition(";")[0], kind + "x" * 500, kind + "; charset=undefined"])
    return head(len(body), f"Content-Type: {kind}") + body


def heads(dice: random.Random) -> bytes:
    """Heads that are too long, too many, folded, or with control characters."""
    line = dice.choice(
        [
            b"A: " + b"b" * 2**18,
            b"\r\n".join([b"A: b"] * 20_000),
            b"A: b\r\n c",
            b"A\0: b",
            b"A: \x1b[31m",
            b": b",
            b"Upgrade: websocket\r\nConnection: Upgrade",
            b"Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings",
            b"Expect: 200-ok",
            b"Content-Type: " + b";" * 10_000,
            b"Origin: \xff",
            b"Authorization: Bearer \xff",
            b"Range: bytes=" + b"0-," * 3_000,
        ]
    )
    return _START + line + b"\r\nContent-Length: 1\r\n\r\nx"


def targets(dice: random.Random) -> bytes:
    """Paths, queries, methods and versions of all kinds, many in one connection."""
    target = dice.choice(
        [b"*", b"http://evil/v1/classify", b"//", b"/../../etc/passwd", b"/%00%1b[2J", b"/%ff", b"/?" + b"&" * 10_000,
         b"/docs/%2e%2e", b"/v1/classify?top_k=" + b"9" * 10_000, b"/v1/classify?top_k[]=1&top_k=%00", b"\x7f", b"/ "]
    )  # fmt: skip
    method = dice.choice([b"GET", b"POST", b"CONNECT", b"OPTIONS", b"TRACE", b"get", b"\0", b"A" * 10_000])
    version = dice.choice([b"HTTP/1.1", b"HTTP/1.0", b"HTTP/3.0", b"HTTP/1.1 x", b""])
    return (method + b" " + target + b" " + version + b"\r\nHost: localhost\r\n\r\n") * dice.choice([1, 1, 200])


def mutated(dice: random.Random) -> bytes:
    """A good request with some bytes changed."""
    request = bytearray(head(400, "Content-Type: image/png", "Origin: http://localhost") + dice.randbytes(400))
    for _ in range(dice.randrange(1, 12)):
        request[dice.randrange(150)] = dice.randrange(256)
    return bytes(request)


KINDS: tuple[Callable[[random.Random], bytes], ...] = (
    noise, chunks, lengths, compressed, nested, forms, heads, targets, mutated,
)  # fmt: skip


def send(gateway: Gateway, number: int) -> int | None:
    """Send a request, in two pieces or not to its end; return the status of the answer, if there is one."""
    dice = random.Random(number)  # noqa: S311
    request = KINDS[number % len(KINDS)](dice)
    cut = dice.randrange(len(request) + 1)
    with gateway.connect() as connection, contextlib.suppress(ConnectionError, http.client.HTTPException):
        connection.sendall(request[:cut])
        if dice.random() < 0.2:
            return None
        connection.sendall(request[cut:])
        response = answer(connection)
        if response.status >= 400 and response.body:
            assert list(response.body) == ["error"]
            assert response.body["error"].isprintable()
        return response.status
    return None


@contextlib.contextmanager
def slow_bodies(gateway: Gateway) -> Iterator[Callable[[], None]]:
    """Hold connections with a request that does not go on; the function opens those again that were cut off."""
    held: list[socket.socket] = []

    def hold() -> None:
        while len(held) >= HELD:
            held.pop(0).close()
        while len(held) < HELD:
            held.append(gateway.connect())
            held[-1].sendall(head(100_000)[: 30 if len(held) % 2 else None] + b"x")

    yield hold
    for connection in held:
        connection.close()


def test_gateway_survives_a_thousand_malformed_requests(
    server: TritonServer, images: dict[str, Path], tmp_path: Path, note: Callable[[str], None]
) -> None:
    """Both processes stay the same, memory is bounded, and every good image in between is answered right."""
    cat = images["cat"].read_bytes()
    pid = of_server(server)
    statuses: list[int | None] = []
    options = ("--timeout-s=2", "--max-body-mib=4")
    with (
        running(server.grpc_url, tmp_path / "log", *options) as gateway,
        slow_bodies(gateway) as hold,
        ThreadPoolExecutor(AT_ONCE) as pool,
    ):
        expected = gateway.post("/v1/classify", cat).body
        assert expected["predictions"][0]["label"] == "Egyptian cat"
        before_mib, server_before_mib = gateway.resident_mib(), resident_mib(pid)
        most_mib = 0.0
        for first in range(0, REQUESTS, AT_ONCE):
            hold()
            found = pool.map(functools.partial(send, gateway), range(first, first + AT_ONCE))
            good = gateway.post("/v1/classify", cat)
            assert (good.status, good.body) == (200, expected), first
            statuses += found
            most_mib = max(most_mib, gateway.resident_mib() - before_mib)
        assert gateway.process.poll() is None
        log = gateway.log.read_text()
    assert of_server(server) == pid
    grown_mib = resident_mib(pid) - server_before_mib
    counts = collections.Counter(statuses)
    note(f"memory of the gateway grew by {most_mib:.0f} MiB, of the server by {grown_mib:.0f} MiB; {dict(counts)}")
    assert most_mib < MOST_MIB
    assert grown_mib < MOST_MIB
    assert len(statuses) == REQUESTS
    assert counts.keys() <= {None, 200, 400, 403, 404, 405, 408, 411, 413, 415, 421, 422}
    assert "Traceback" not in log
    assert log.replace("\n", "").isprintable()
