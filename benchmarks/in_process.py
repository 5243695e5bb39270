"""The in-process limit: the server's decoder and the same network in one process, without a server.

A program: for each line ``CALLERS SECONDS`` on standard input, it prints one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from resnet_client.preprocessing import PreprocessConfig, prepare

from benchmarks import CORES, images
from benchmarks.networks import Run, open_network


def images_per_s(
    runs: Sequence[Run], jpegs: Sequence[bytes], config: PreprocessConfig, *, batch: int, seconds: float
) -> float:
    """Decode and classify as fast as the process can: each thread decodes a batch and executes a network of its own.

    Each thread is timed over whole batches of its own, and all go on until the last has its time, so that all cores
    stay busy.
    """
    measured: dict[int, list[float]] = {}

    def classify(number: int) -> float:
        finished: list[float] = []
        turn = number
        try:
            while len(measured) < len(runs):
                batched = [jpegs[(turn + offset) % len(jpegs)] for offset in range(batch)]
                runs[number](np.stack([prepare(jpeg, config) for jpeg in batched]))
                finished.append(time.perf_counter())
                turn += batch
                if finished[-1] - finished[0] >= seconds:
                    measured.setdefault(number, finished.copy())
        finally:
            measured.setdefault(number, finished)  # so that a failure ends the others, too
        return rate(measured[number])

    with ThreadPoolExecutor(len(runs)) as pool:
        return batch * sum(pool.map(classify, range(len(runs))))


def rate(finished: Sequence[float]) -> float:
    """Batches per second, from the times in seconds at which they were finished; the first one is warm-up."""
    return (len(finished) - 1) / (finished[-1] - finished[0])


def latencies_s(run: Run, jpegs: Sequence[bytes], config: PreprocessConfig, seconds: float) -> list[float]:
    """Times of decoding and classifying one image after another, without the first."""
    took: list[float] = []
    began = time.perf_counter()
    while time.perf_counter() < began + seconds or len(took) == 1:
        sent = time.perf_counter()
        run(prepare(jpegs[len(took) % len(jpegs)], config)[np.newaxis])
        took.append(time.perf_counter() - sent)
    return took[1:]


def main() -> None:
    """Measure until the end of standard input."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("variant")
    parser.add_argument("file", type=Path, help="ONNX file")
    parser.add_argument("preprocessing", type=PreprocessConfig.from_json)
    parser.add_argument("batch", type=int)
    args = parser.parse_args()
    jpegs = images.standard()
    alone = open_network(args.variant, args.file, CORES)
    runs = [open_network(args.variant, args.file, 1) for _ in range(CORES)]
    for line in sys.stdin:
        callers, seconds = int(line.split()[0]), float(line.split()[1])
        if callers == 1:
            took = latencies_s(alone, jpegs, args.preprocessing, seconds)
            measured = {"images_per_s": len(took) / sum(took), "p50_ms": 1e3 * float(np.median(took))}
        else:
            measured = {
                "images_per_s": images_per_s(runs, jpegs, args.preprocessing, batch=args.batch, seconds=seconds)
            }
        print(json.dumps(measured), flush=True)


if __name__ == "__main__":
    main()
