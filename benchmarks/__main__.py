"""The command line: ``python -m benchmarks``."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from benchmarks import ROOT, accuracy, compare, decoding, perf_analyzer, report, servers, sweep
from benchmarks.repository import Repository
from benchmarks.results import RESULTS, machine, read, write

# Rounds, and seconds of each measurement.
_LENGTHS = {"full": (5, 2.0), "quick": (1, 0.5)}
_BUSY_PERCENT = 10


def _run(args: argparse.Namespace) -> int:
    """Measure, and write results.json; a part of the measurements is only printed."""
    repository = Repository(args.repository)
    rounds, seconds = _LENGTHS[args.length]
    sections: dict[str, Callable[[], Any]] = {
        "load_generators": lambda: perf_analyzer.run(repository, rounds=rounds, seconds=3 * seconds),
        "accuracy": lambda: accuracy.run(repository),
        "decoding": lambda: decoding.run(repository),
        "servers": lambda: servers.run(repository, rounds=rounds, seconds=seconds, names=args.servers),
    }
    measured_on, busy = machine(), psutil.cpu_percent(interval=2)
    if busy > _BUSY_PERCENT:
        print(f"warning: other programs use {busy:.0f} % of the CPU; the results will vary", file=sys.stderr)
    began_s = time.monotonic()
    found = {name: sections[name]() for name in args.only or sections}
    minutes = (time.monotonic() - began_s) / 60
    if args.only or args.servers:
        print(json.dumps(found, indent=2))
        return 0
    conditions = {"rounds": rounds, "seconds": seconds, "minutes": minutes, "busy_percent": busy}
    write({"machine": measured_on, **conditions, **found}, RESULTS)
    return 0


def _report(_: argparse.Namespace) -> int:
    """Write docs/performance.md from results.json."""
    report.write(read(RESULTS), ROOT / "docs")
    return 0


def _compare(_: argparse.Namespace) -> int:
    """Compare results.json with the last release; exit with 1 if something is slower."""
    return compare.show(read(RESULTS), compare.last_release())


def _release(_: argparse.Namespace) -> int:
    """Keep the main numbers of results.json for the next release to compare with."""
    compare.keep(read(RESULTS))
    return 0


def _sweep(args: argparse.Namespace) -> int:
    """Find the best settings of the other servers."""
    sweep.run(Repository(args.repository), seconds=_LENGTHS[args.length][1], names=args.servers)
    return 0


def main() -> int:
    """Run the command; return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in (_run, _report, _compare, _release, _sweep):
        added = commands.add_parser(command.__name__[1:], help=command.__doc__)
        added.set_defaults(command=command)
        if command in (_run, _sweep):
            added.add_argument("--repository", type=Path, default=ROOT / ".bench-repository", metavar="DIR")
            added.add_argument("--length", choices=_LENGTHS, default="full")
            added.add_argument("--servers", nargs="+", default=[], metavar="NAME", help="Only these, such as mosec")
        if command is _run:
            added.add_argument("--only", nargs="+", default=[], metavar="SECTION", help="Print only these measurements")
    args = parser.parse_args()
    code: int = args.command(args)
    return code


if __name__ == "__main__":
    sys.exit(main())
