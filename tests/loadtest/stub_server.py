"""A Triton of known behaviour: enough of KServe v2 over HTTP for the client, in a process of its own.

Run as a program it prints its port, then serves until it is ended. Each answer comes when its time is due;
requests beyond the capacity wait their turn, as they would in a queue. Its counts are exact.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys

RECIPE = '{"crop":224,"interpolation":"bilinear","resize":256}'
_NANO = 1_000_000_000
TIMER_S = 0.0015  # asyncio's timers are whole milliseconds; the rest is waited for actively
MODEL = "resnet50"
CLASS = b"\x0a\0\0\x000.5:1:stub"  # its length in four bytes, then the text


class Behaviour:
    """When and how each request is answered."""

    def __init__(self, options):
        self.options = options
        self.requests = 0
        self.succeeded = 0
        self.failed = 0
        self.busy_ns = 0
        self._free_s = 0.0
        self._stall_until_s = 0.0

    def admit(self, now_s):
        """Returns the delay in seconds and whether the answer is a failure."""
        self.requests += 1
        start_s = max(now_s, self._stall_until_s)
        if self.requests == self.options.stall_at:
            self._stall_until_s = start_s = now_s + self.options.stall_s
        if self.options.capacity:
            start_s = max(start_s, self._free_s)
            self._free_s = start_s + 1 / self.options.capacity
        delay_s = start_s + self.options.answer_s - now_s
        # Spread evenly and exactly: request 33, 66, 100, … of a hundred fail at three per cent.
        share = self.options.fail
        fails = int(self.requests * share) > int((self.requests - 1) * share)
        return delay_s, fails

    def count(self, delay_s, *, fails):
        """An answer was sent."""
        self.failed += fails
        self.succeeded += not fails
        self.busy_ns += int(delay_s * _NANO)

    def statistics(self):
        """Triton's answer to ``/v2/models/stats``."""
        extra = int(self.succeeded * self.options.miscount)
        success = {"count": self.succeeded + extra, "ns": self.busy_ns}
        zero = {"count": self.succeeded, "ns": 0}
        durations = {
            "success": success,
            "fail": {"count": self.failed, "ns": 0},
            "queue": zero,
            "compute_input": zero,
            "compute_infer": success,
            "compute_output": zero,
        }
        batches = [{"batch_size": 1, "compute_infer": success}] if self.succeeded else []
        return {
            "model_stats": [
                {
                    "name": MODEL,
                    "version": "1",
                    "inference_count": self.succeeded,
                    "execution_count": self.succeeded,
                    "inference_stats": durations,
                    "batch_stats": batches,
                }
            ]
        }


class Connection(asyncio.Protocol):
    """HTTP/1.1 with keep-alive, one request at a time, bodies by Content-Length."""

    def __init__(self, behaviour):
        self._behaviour = behaviour
        self._buffer = b""

    def connection_made(self, transport):
        """Remember where to answer."""
        self._transport = transport

    def data_received(self, data):
        """Answer every request that is complete."""
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = self._buffer[:end].decode("latin-1")
            length = 0
            for line in head.split("\r\n")[1:]:
                name, _, value = line.partition(":")
                if name.lower() == "content-length":
                    length = int(value)
            if len(self._buffer) < end + 4 + length:
                return
            self._buffer = self._buffer[end + 4 + length :]
            self._answer(head.split(" ", 2)[1])

    def _answer(self, path):
        if path.endswith("/infer"):
            loop = asyncio.get_running_loop()
            delay_s, fails = self._behaviour.admit(loop.time())
            due_s = loop.time() + delay_s
            loop.call_later(max(0.0, delay_s - TIMER_S), self._infer, delay_s, due_s, fails)
        elif path == "/v2/models/stats":
            self._send(self._behaviour.statistics())
        elif path.endswith("/config"):
            parameters = {"recipe": {"string_value": RECIPE}}
            self._send({"name": MODEL, "max_batch_size": 8, "parameters": parameters})
        elif path.startswith("/v2/models/"):
            self._send({"name": MODEL, "versions": ["1"], "platform": "stub", "inputs": [], "outputs": []})
        else:
            self._send({"name": "stub", "version": "1", "extensions": []})

    def _infer(self, delay_s, due_s, fails):
        while asyncio.get_running_loop().time() < due_s:
            pass
        self._behaviour.count(delay_s, fails=fails)
        if fails:
            self._send({"error": "failed on purpose"}, "500 Internal Server Error")
            return
        size = {"binary_data_size": len(CLASS)}
        output = {"name": "PROBABILITIES__0", "datatype": "BYTES", "shape": [1, 1], "parameters": size}
        self._send({"model_name": MODEL, "model_version": "1", "outputs": [output]}, binary=CLASS)

    def _send(self, content, status="200 OK", binary=b""):
        body = json.dumps(content).encode()
        head = (
            f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\n"
            f"Inference-Header-Content-Length: {len(body)}\r\nContent-Length: {len(body) + len(binary)}\r\n\r\n"
        )
        if not self._transport.is_closing():
            self._transport.write(head.encode() + body + binary)


async def serve(options):
    """Serve until the process is ended."""
    behaviour = Behaviour(options)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(behaviour), "127.0.0.1", 0)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await server.serve_forever()


def parser():
    """The behaviour's options."""
    made = argparse.ArgumentParser()
    made.add_argument("--answer-s", type=float, default=0.005, help="service time of every request")
    made.add_argument("--stall-at", type=int, default=0, help="number of the request that begins a stall")
    made.add_argument("--stall-s", type=float, default=2.0, help="for how long nothing is answered then")
    made.add_argument("--fail", type=float, default=0.0, help="share of the requests that fail")
    made.add_argument("--capacity", type=float, default=0.0, help="requests per second; 0 for no limit")
    made.add_argument("--miscount", type=float, default=0.0, help="share by which the statistics exceed the truth")
    return made


if __name__ == "__main__":
    asyncio.run(serve(parser().parse_args()))
