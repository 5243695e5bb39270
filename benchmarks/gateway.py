"""The cost of the gateway compared with gRPC: the same images to the same server, in turns, with 1 and 16 callers.

python -m benchmarks.gateway model_repository
"""

from __future__ import annotations

import asyncio
import itertools
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable

import aiohttp
import psutil
from resnet_client import AsyncClient
from resnet_serve import ALL_MODELS, ServerConfig, TritonServer

from benchmarks.images import standard

_ROUNDS, _SECONDS = 8, 4.0


async def measure(send: Callable[[bytes], Awaitable[object]], callers: int) -> tuple[int, float]:
    """Return how many images were answered, and their median latency in milliseconds."""
    images, latencies, end = itertools.cycle(standard()), list[float](), time.perf_counter() + _SECONDS

    async def call() -> None:
        while (sent := time.perf_counter()) < end:
            await send(next(images))
            latencies.append(time.perf_counter() - sent)

    await asyncio.gather(*(call() for _ in range(callers)))
    return len(latencies), 1e3 * statistics.median(latencies)


async def compare(server: str, gateway: str, process: psutil.Process) -> None:
    """Measure both ways in turns, and print medians of the rounds."""
    async with AsyncClient(server) as client, aiohttp.ClientSession(raise_for_status=True) as session:

        async def over_gateway(image: bytes) -> None:
            async with session.post(f"{gateway}/v1/classify", data=image) as response:
                await response.json()

        for callers in (1, 16):
            await measure(over_gateway, callers)
            before_s = sum(process.cpu_times()[:2])
            pairs = [
                (await measure(client.classify, callers), await measure(over_gateway, callers)) for _ in range(_ROUNDS)
            ]
            core_ms = 1e3 * (sum(process.cpu_times()[:2]) - before_s) / sum(over[0] for _, over in pairs)
            for name, turns in zip(("gRPC", "gateway"), zip(*pairs, strict=True), strict=True):
                count, p50_ms = map(statistics.median, zip(*turns, strict=True))
                print(f"{callers:2} callers, {name:7}: {count / _SECONDS:5.1f} images/s, p50 {p50_ms:.1f} ms")
            ratio = statistics.median(over[1] / grpc[1] for grpc, over in pairs)
            print(f"{callers:2} callers: p50 {ratio:.3f} times that of gRPC; its process: {core_ms:.2f} core-ms/image")


if __name__ == "__main__":
    with TritonServer(ServerConfig(sys.argv[1], models=ALL_MODELS, port=0)) as running:
        command = [sys.executable, "-m", "resnet_serve", "gateway", "--port=0", f"--url={running.grpc_url}"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as started:
            address = started.stdout.readline().split()[0] if started.stdout else ""
            try:
                asyncio.run(compare(running.grpc_url, address, psutil.Process(started.pid)))
            finally:
                started.terminate()
