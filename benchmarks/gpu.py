"""The measurements of docs/gpu.md: ONNX Runtime's settings on a GPU, and throughput with many requests in flight.

``python -m benchmarks.gpu settings`` times the networks of a built repository without a server: images per second by
batch size, and the cost of changing the batch size. ``python -m benchmarks.gpu callers MODEL…`` calls a running
server in a closed loop over HTTP, from several processes, because one cannot saturate a server on a GPU.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from resnet_client import Client
from resnet_client.requests import PIXELS, PROBABILITIES
from rich.console import Console
from rich.table import Table

from benchmarks import images
from benchmarks.closed_loop import Sample, measure
from benchmarks.senders import HttpSender, over_http

_CUDA = "CUDAExecutionProvider"
# Options of the CUDA provider; None is the CPU.
_Options = dict[str, str] | None
_ON_CPU: dict[str, _Options] = {"CPU": None}
_ON_GPU: dict[str, _Options] = {
    "exhaustive search": {},
    "heuristic search": {"cudnn_conv_algo_search": "HEURISTIC"},
    "heuristic search, NHWC": {"cudnn_conv_algo_search": "HEURISTIC", "prefer_nhwc": "1"},
    "exhaustive search, NHWC": {"prefer_nhwc": "1"},
    "exhaustive search, no TF32": {"use_tf32": "0"},
}
_NETWORKS = ("network_fp16", "network_onnx")
# Alternated, so that consecutive batches differ in size.
_CHANGING = (5, 6)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    args = _parser().parse_args(arguments)
    try:
        Console().print(_settings(args) if args.command == "settings" else _callers(args))
    except OSError as exc:
        sys.stderr.write(f"{exc}\n")
        return 1
    return 0


def _settings(args: argparse.Namespace) -> Table:
    """Time every setting on every network.

    Raises:
        OSError: this ONNX Runtime has no GPU, or there is no network.
    """
    if not args.cpu:
        if _CUDA not in ort.get_available_providers():
            raise OSError("this ONNX Runtime has no GPU support: pip install onnxruntime-gpu instead of onnxruntime")
        ort.preload_dlls()
    table = Table("network", "setting", *(f"images/s at {size}" for size in args.sizes), "ms per change of size")
    for network in _NETWORKS:
        artifact = args.repository / network / "1/model.onnx"
        if not artifact.exists():
            continue
        for setting, options in (_ON_CPU if args.cpu else _ON_GPU).items():
            session = _session(artifact, options)
            speeds = [size / _median_s(session, [size], args.repeats) for size in args.sizes]
            change_s = _median_s(session, _CHANGING, args.repeats) - _median_s(session, _CHANGING[:1], args.repeats)
            table.add_row(network, setting, *(f"{speed:.0f}" for speed in speeds), f"{1e3 * change_s:.1f}")
    if not table.row_count:
        raise OSError(f"{args.repository} has no ONNX network: run resnet-build first")
    return table


def _session(artifact: Path, options: _Options) -> ort.InferenceSession:
    if options is None:
        return ort.InferenceSession(artifact, providers=["CPUExecutionProvider"])
    session = ort.InferenceSession(artifact, providers=[(_CUDA, options), "CPUExecutionProvider"])
    if _CUDA not in session.get_providers():
        raise OSError('ONNX Runtime could not start on the GPU: pip install "onnxruntime-gpu[cuda,cudnn]"')
    return session


def _median_s(session: ort.InferenceSession, sizes: Sequence[int], repeats: int) -> float:
    """Time batches of alternating sizes, after one of each and two more of the first that do not count."""
    batches = [images.random_pixels(count, session.get_inputs()[0].shape[1]) for count in sizes]
    for pixels in (*batches, batches[0], batches[0]):
        session.run([PROBABILITIES], {PIXELS: pixels})
    seconds = []
    for number in range(repeats):
        started_s = time.perf_counter()
        session.run([PROBABILITIES], {PIXELS: batches[(number + 1) % len(batches)]})
        seconds.append(time.perf_counter() - started_s)
    return statistics.median(seconds)


def _callers(args: argparse.Namespace) -> Table:
    """Call every model with every number of requests in flight.

    Raises:
        OSError: a request failed.
    """
    paths = sorted(args.images.glob("*.jp*g")) if args.images else []
    jpegs = [path.read_bytes() for path in paths] or images.standard()
    table = Table("model", "callers", "images/s", "p50 ms", "p99 ms")
    for model in args.models:
        sent: list[Any] = jpegs
        if model.startswith("network_"):
            with Client(f"http://127.0.0.1:{args.port}") as client:
                sent = [*images.pixels_of(client, model, 8)]
        sender = HttpSender(args.port, [over_http(model, image) for image in sent])
        for callers in args.callers:
            try:
                samples = _samples(sender, callers, args.processes, args.seconds)
            except OSError as exc:
                raise OSError(f"{model}, {callers} callers: {exc}") from exc
            latencies_ms = 1e3 * np.concatenate([sample.latencies_s for sample in samples])
            rate = sum(sample.throughput for sample in samples)
            p50, p99 = np.percentile(latencies_ms, (50, 99))
            table.add_row(model, str(callers), f"{rate:.1f}", f"{p50:.1f}", f"{p99:.1f}")
    return table


def _samples(sender: HttpSender, callers: int, processes: int, seconds: float) -> list[Sample]:
    """Divide the callers among forked processes, which start within the warm-up of `measure`."""
    processes = min(processes, callers)
    shares = [callers // processes + (number < callers % processes) for number in range(processes)]
    with multiprocessing.get_context("fork").Pool(processes) as pool:
        return pool.starmap(_sample, [(sender, share, seconds) for share in shares], chunksize=1)


def _sample(sender: HttpSender, callers: int, seconds: float) -> Sample:
    return measure(sender, callers=callers, seconds=seconds)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    settings = commands.add_parser("settings", help="Settings of ONNX Runtime, without a server")
    settings.add_argument("--repository", type=Path, default=Path("model_repository"), metavar="DIR")
    settings.add_argument("--sizes", type=int, nargs="+", default=[1, 8, 32], metavar="N", help="Batch sizes")
    settings.add_argument("--repeats", type=int, default=20, metavar="N", help="Runs of each batch size (default: 20)")
    settings.add_argument("--cpu", action="store_true", help="Run on the CPU, where the settings have no effect")
    callers = commands.add_parser("callers", help="Throughput of a running server with many requests in flight")
    callers.add_argument("models", nargs="+", help="Models: ensembles get images, networks random pixels")
    callers.add_argument("--port", type=int, default=8000, help="HTTP port on this machine (default: 8000)")
    callers.add_argument(
        "--images", type=Path, metavar="DIR", help="Folder with JPEGs (default: crops of bundled images)"
    )
    callers.add_argument("--callers", type=int, nargs="+", default=[1, 16, 64, 128], help="Requests in flight")
    callers.add_argument(
        "--processes", type=int, default=6, help="Most processes among which the callers are divided (default: 6)"
    )
    callers.add_argument("--seconds", type=float, default=2.5, help="Duration of each measurement (default: 2.5)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
