"""A Triton of known behaviour: enough of KServe v2 over HTTP for the client, in a process of its own.

Run as a program it prints its port, then serves until it is ended. Each response comes when its time is due; requests
beyond the capacity wait their turn, as they would in a queue. Its counts are exact.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time

from aiohttp import web

PREPROCESSING = '{"crop":224,"interpolation":"bilinear","resize":256}'
MODEL = "resnet50"
CONFIG = {"name": MODEL, "max_batch_size": 8, "parameters": {"preprocessing": {"string_value": PREPROCESSING}}}
CLASS = b"\x0a\0\0\x000.5:1:stub"  # its length in four bytes, then the text
_NANO = 1_000_000_000
_TIMER_S = 0.0015  # asyncio's timers are whole milliseconds; the rest is waited for actively


class Behaviour:
    """When each request is answered, and whether it fails."""

    def __init__(self):
        made = argparse.ArgumentParser()
        made.add_argument("--answer-s", type=float, default=0.005, help="service time of every request")
        made.add_argument("--stall-at", type=int, default=0, help="number of the request that begins a stall")
        made.add_argument("--stall-s", type=float, default=2.0, help="for how long nothing is answered then")
        made.add_argument("--fail", type=float, default=0.0, help="share of the requests that fail")
        made.add_argument("--capacity", type=float, default=0.0, help="requests per second; 0 for no limit")
        made.add_argument("--loads-s", type=float, default=0.0, help="for how long every request is refused first")
        made.add_argument("--cpu", type=float, default=0.1, help="utilization in the metrics")
        self.options = made.parse_args()
        self.ready_s = time.monotonic() + self.options.loads_s
        self.requests = self.succeeded = self.failed = self.busy_ns = 0
        self._free_s = self._stall_until_s = 0.0

    async def answer(self):
        """Wait until the response is due; returns whether it is a failure."""
        loop = asyncio.get_running_loop()
        now_s = loop.time()
        self.requests += 1
        start_s = max(now_s, self._stall_until_s)
        if self.requests == self.options.stall_at:
            self._stall_until_s = start_s = now_s + self.options.stall_s
        if self.options.capacity:
            start_s = max(start_s, self._free_s)
            self._free_s = start_s + 1 / self.options.capacity
        # Spread evenly and exactly: request 33, 66, 100, … of a hundred fail at three per cent.
        fails = int(self.requests * self.options.fail) > int((self.requests - 1) * self.options.fail)
        due_s = start_s + self.options.answer_s
        await asyncio.sleep(max(0.0, due_s - now_s - _TIMER_S))
        while loop.time() < due_s:
            pass
        self.failed += fails
        self.succeeded += not fails
        self.busy_ns += int((due_s - now_s) * _NANO)
        return fails

    def statistics(self):
        """Triton's response to ``/v2/models/stats``."""
        success = {"count": self.succeeded, "ns": self.busy_ns}
        zero = {"count": self.succeeded, "ns": 0}
        names = ("queue", "compute_input", "compute_output")
        compute = {"count": self.succeeded, "ns": self.busy_ns // 2}
        durations = {"success": success, "compute_infer": compute, "fail": {"count": self.failed, "ns": 0}}
        batches = [{"batch_size": 1, "compute_infer": compute}] if self.succeeded else []
        model = {"name": MODEL, "version": "1", "inference_count": self.succeeded, "execution_count": self.succeeded}
        model |= {"inference_stats": durations | dict.fromkeys(names, zero), "batch_stats": batches}
        return {"model_stats": [model]}

    async def metrics(self, _):
        """The page of the metrics endpoint."""
        return web.Response(text=f"nv_cpu_utilization {self.options.cpu}\n")


def application(behaviour):
    """The paths that the client and the load test call."""

    async def infer(request):
        await request.read()
        if await behaviour.answer():
            return web.json_response({"error": "failed on purpose"}, status=500)
        size = {"binary_data_size": len(CLASS)}
        output = {"name": "PROBABILITIES__0", "datatype": "BYTES", "shape": [1, 1], "parameters": size}
        head = json.dumps({"model_name": MODEL, "model_version": "1", "outputs": [output]}).encode()
        return web.Response(body=head + CLASS, headers={"Inference-Header-Content-Length": str(len(head))})

    def fixed(content):
        async def respond(_):
            return web.json_response(content() if callable(content) else content)

        return respond

    metadata = {"name": MODEL, "versions": ["1"], "platform": "stub", "inputs": [], "outputs": []}

    @web.middleware
    async def loading(request, handler):
        if time.monotonic() < behaviour.ready_s:
            return web.json_response({"error": f"Request for unknown model: '{MODEL}' is not found"}, status=400)
        return await handler(request)

    app = web.Application(client_max_size=1 << 26, middlewares=[loading])

    app.router.add_get("/metrics", behaviour.metrics)
    app.router.add_get("/v2", fixed({"name": "stub", "version": "1", "extensions": []}))
    for path in ("/v2/health/live", "/v2/health/ready", "/v2/models/{model}/ready"):
        app.router.add_get(path, fixed({}))
    app.router.add_get("/v2/models/stats", fixed(behaviour.statistics))
    app.router.add_get("/v2/models/{model}", fixed(metadata))
    app.router.add_get("/v2/models/{model}/config", fixed(CONFIG))
    app.router.add_post("/v2/models/{model}/infer", infer)
    return app


async def serve():
    """Serve until the process is ended."""
    runner = web.AppRunner(application(Behaviour()), access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    sys.stdout.write(f"{runner.addresses[0][1]}\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve())
