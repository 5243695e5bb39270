"""What Winograd's filtering gains: OpenVINO's float networks by pairs of photos, beside the networks as they are.

In one process without a server, in turns, so that whatever else the machine does falls on both. Run it as
``python -m benchmarks.pairs``.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks import networks
from benchmarks.networks import Pixels, Run
from benchmarks.report.results import Figure

_NETWORKS = ("FP32 on OpenVINO", "BF16 on OpenVINO")
# The best of three is taken: the first after another network finds the caches full of that one's weights.
_EXECUTIONS = 3


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and print a line for each network and number of threads; return the exit code."""
    args = _parser().parse_args(arguments)
    pixels = np.random.default_rng(0).integers(0, 256, (args.photos, 224, 224, 3), dtype=np.uint8)
    sys.stdout.write("network\tthreads\tas it is, ms a photo\tby pairs, ms a photo\tof the time\n")
    for name in _NETWORKS:
        file = networks.NETWORKS[name].file(args.repository)
        for threads in args.threads:
            plain = networks.open_network(name, file, threads, spin=False)
            pairs = networks.open_pairs(name, file, threads)
            rounds = [(_time_ms(plain, pixels), _time_ms(pairs, pixels)) for _ in range(args.rounds)]
            sys.stdout.write(f"{name}\t{threads}\t{_row(rounds)}\n")
    return 0


def _time_ms(run: Run, pixels: Pixels) -> float:
    """Return the time of a photo."""
    best = float("inf")
    for _ in range(_EXECUTIONS):
        started = time.perf_counter()
        run(pixels)
        best = min(best, time.perf_counter() - started)
    return 1000 * best / len(pixels)


def _row(rounds: Sequence[tuple[float, float]]) -> str:
    """Medians of the rounds, and of their ratios with the range of the rounds."""
    plain, pairs = (statistics.median(times) for times in zip(*rounds, strict=True))
    ratios = Figure.of(by_pairs / as_it_is for as_it_is, by_pairs in rounds)
    return f"{plain:.1f}\t{pairs:.1f}\t{ratios.text(2)}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pairs", description=__doc__)
    parser.add_argument("--repository", type=Path, default=Path(".bench-repository"), help="built model repository")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="of a network (default: 1 2)")
    parser.add_argument("--photos", type=int, default=4, help="in a batch, an even number (default: 4)")
    parser.add_argument("--rounds", type=int, default=12, help="turns of each (default: 12)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
