"""What many callers at once get from a server that runs: a closed loop over HTTP, in several processes.

One process is the limit long before a server on a GPU is. Run it as ``python -m benchmarks.many_callers``.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.synchronize import Barrier
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks import photos
from benchmarks.closed_loop import Sample, measure
from benchmarks.doors import HttpDoor
from benchmarks.triton_requests import over_http

_HTTP_PORT = 8000
_ready: Barrier


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and print a line for each model and number of callers; return the exit code."""
    args = _parser().parse_args(arguments)
    jpegs = [path.read_bytes() for path in sorted(args.photos.glob("*.jp*g"))] if args.photos else photos.standard()
    sys.stdout.write("model\tcallers\tphotos/s\tp50 ms\tp99 ms\n")
    for model in args.models:
        inputs: list[bytes] | list[npt.NDArray[np.uint8]] = jpegs
        if model.startswith("network_"):
            inputs = [*photos.random_pixels(8)]
        requests = [over_http(model, one) for one in inputs]
        for callers in args.callers:
            try:
                samples = _samples(HttpDoor(args.port, requests), callers, args.processes, args.seconds)
            except OSError as exc:
                sys.stderr.write(f"{model}, {callers} callers: {exc}\n")
                return 1
            latencies_ms = 1e3 * np.concatenate([sample.latencies_s for sample in samples])
            p50, p99 = np.percentile(latencies_ms, (50, 99))
            rate = sum(sample.throughput for sample in samples)
            sys.stdout.write(f"{model}\t{callers}\t{rate:.1f}\t{p50:.1f}\t{p99:.1f}\n")
    return 0


def _samples(door: HttpDoor, callers: int, processes: int, seconds: float) -> list[Sample]:
    """Divide the callers among processes that begin together."""
    processes = min(processes, callers)
    shares = [callers // processes + (number < callers % processes) for number in range(processes)]
    context = multiprocessing.get_context("spawn")
    start = (context.Barrier(processes),)
    with ProcessPoolExecutor(processes, context, initializer=_be_ready_with, initargs=start) as pool:
        running = [pool.submit(_sample, door, share, seconds) for share in shares]
        return [sample.result() for sample in running]


def _be_ready_with(barrier: Barrier) -> None:
    global _ready  # noqa: PLW0603  # a barrier can only be inherited
    _ready = barrier


def _sample(door: HttpDoor, callers: int, seconds: float) -> Sample:
    _ready.wait()
    return measure(door, callers=callers, seconds=seconds)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.many_callers", description=__doc__)
    parser.add_argument("models", nargs="*", default=["resnet50"], help="doors get photos, networks random pixels")
    parser.add_argument("--port", type=int, default=_HTTP_PORT, help=f"HTTP, on this machine (default: {_HTTP_PORT})")
    parser.add_argument("--photos", type=Path, help="folder with JPEGs; else crops of those that packages ship")
    parser.add_argument("--callers", type=int, nargs="+", default=[1, 16, 64, 128], help="at once, in turns")
    parser.add_argument("--processes", type=int, default=6, help="at most, that the callers are divided among")
    parser.add_argument("--seconds", type=float, default=2.5, help="of each measurement")
    return parser


if __name__ == "__main__":
    sys.exit(main())
