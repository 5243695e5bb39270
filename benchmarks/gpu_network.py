"""ONNX Runtime's settings on a GPU, network alone: speed by batch size, and what a change of the batch size costs.

Run it as ``python -m benchmarks.gpu_network``; it reads `network_onnx` and `network_fp16` of a built repository.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import onnxruntime as ort
from resnet_build.tensors import PIXELS, PROBABILITIES
from rich.console import Console
from rich.table import Table

from benchmarks.photos import random_pixels

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
_SIZES = (1, 8, 32)
# Alternated, so that each batch has another size than the one before.
_CHANGING = (5, 6)
_REPEATS = 20


def main(argv: Sequence[str] | None = None) -> int:
    """Measure every setting, print a table, return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu_network", description=__doc__)
    parser.add_argument("--repository", type=Path, default=Path("model_repository"), metavar="DIR")
    parser.add_argument("--repeats", type=int, default=_REPEATS, metavar="N", help="runs of each batch size")
    parser.add_argument("--cpu", action="store_true", help="on the CPU instead, where settings make no difference")
    args = parser.parse_args(argv)
    if not args.cpu:
        if _CUDA not in ort.get_available_providers():
            sys.stderr.write("this ONNX Runtime knows no GPU: pip install onnxruntime-gpu in place of onnxruntime\n")
            return 1
        ort.preload_dlls()
    table = Table("network", "setting", *(f"photos/s at {size}" for size in _SIZES), "ms a change of size")
    for network in _NETWORKS:
        artifact = args.repository / network / "1/model.onnx"
        if not artifact.exists():
            continue
        for setting, options in (_ON_CPU if args.cpu else _ON_GPU).items():
            session = _session(artifact, options)
            speeds = [size / _median_s(session, [size], args.repeats) for size in _SIZES]
            same_s = _median_s(session, _CHANGING[:1], args.repeats)
            changing_s = _median_s(session, _CHANGING, args.repeats)
            extra_ms = 1000 * (changing_s - same_s)
            table.add_row(network, setting, *(f"{speed:.0f}" for speed in speeds), f"{extra_ms:.1f}")
    if not table.row_count:
        sys.stderr.write(f"{args.repository} holds no ONNX network: run resnet-build first\n")
        return 1
    Console().print(table)
    return 0


def _session(artifact: Path, options: _Options) -> ort.InferenceSession:
    if options is None:
        return ort.InferenceSession(artifact, providers=["CPUExecutionProvider"])
    session = ort.InferenceSession(artifact, providers=[(_CUDA, options), "CPUExecutionProvider"])
    if _CUDA not in session.get_providers():
        raise SystemExit('ONNX Runtime could not start on the GPU: pip install "onnxruntime-gpu[cuda,cudnn]"')
    return session


def _median_s(session: ort.InferenceSession, sizes: Sequence[int], repeats: int) -> float:
    """Time batches whose sizes take turns, after one of each and two more of the first that do not count."""
    batches = [random_pixels(size) for size in sizes]
    for pixels in (*batches, batches[0], batches[0]):
        session.run([PROBABILITIES], {PIXELS: pixels})
    seconds = []
    for number in range(repeats):
        started_s = time.perf_counter()
        session.run([PROBABILITIES], {PIXELS: batches[(number + 1) % len(batches)]})
        seconds.append(time.perf_counter() - started_s)
    return statistics.median(seconds)


if __name__ == "__main__":
    sys.exit(main())
