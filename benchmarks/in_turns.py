"""What a setting of the build changes: repositories that differ in it, each behind a server of its own, in turns.

All servers are up during the whole measurement, so that whatever else the machine does falls on all. Run it as
``python -m benchmarks.in_turns``.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from benchmarks import ours, photos
from benchmarks.closed_loop import Door, Sample, measure
from benchmarks.report.results import Figure


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and print a line for each number of callers and repository; return the exit code."""
    args = _parser().parse_args(arguments)
    jpegs = photos.standard()
    with ExitStack() as running:
        doors = [
            running.enter_context(ours.serving(repository)).door(args.protocol, args.model, jpegs)
            for repository in args.repositories
        ]
        sys.stdout.write("callers\trepository\tphotos/s\tof the first\tp50 ms\tp95 ms\n")
        for callers in args.callers:
            samples = _in_turns(doors, callers, args.rounds, args.turn_s)
            for repository, own in zip(args.repositories, samples, strict=True):
                sys.stdout.write(f"{callers}\t{repository}\t{_row(own, samples[0])}\n")
    return 0


def _in_turns(doors: Sequence[Door], callers: int, rounds: int, turn_s: float) -> list[list[Sample]]:
    """Return the samples of each door, of all rounds; forth and back, so that none is always the first."""
    samples: list[list[Sample]] = [[] for _ in doors]
    turns = list(zip(doors, samples, strict=True))
    for number in range(rounds):
        for door, own in turns[:: -1 if number % 2 else 1]:
            own.append(measure(door, callers=callers, seconds=turn_s))
    return samples


def _row(own: Sequence[Sample], first: Sequence[Sample]) -> str:
    """Medians of the rounds; beside those of the first door, the range of the rounds' ratios."""
    ratios = Figure.of(one.throughput / other.throughput for one, other in zip(own, first, strict=True))
    rate = statistics.median(sample.throughput for sample in own)
    p50, p95 = (statistics.median(sample.percentile_ms(percent) for sample in own) for percent in (50, 95))
    return f"{rate:.1f}\t{ratios.text(2)}\t{p50:.0f}\t{p95:.0f}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.in_turns", description=__doc__)
    parser.add_argument(
        "repositories", nargs="+", type=Path, help="built model repositories; the first is compared with"
    )
    parser.add_argument("--model", default="resnet50", help="ensemble that is called (default: resnet50)")
    parser.add_argument("--protocol", choices=ours.PROTOCOLS, default=ours.PROTOCOLS[0])
    parser.add_argument("--callers", type=int, nargs="+", default=[1, 16, 64], help="at once, one after the other")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each repository (default: 5)")
    parser.add_argument("--turn-s", type=float, default=6.0, help="seconds of a turn (default: 6)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
