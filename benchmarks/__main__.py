"""The command line: ``python -m benchmarks run`` and ``sweep``."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from benchmarks import measurements, results
from benchmarks.networks import NETWORKS
from benchmarks.repository import Repository


def main() -> int:
    """Run the command; return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("command", choices=("run", "sweep"))
    parser.add_argument(
        "--repository", type=Path, default=Path(".bench-repository"), help="Repository with the variant int8"
    )
    parser.add_argument("--length", choices=tuple(measurements.LENGTHS), default="full")
    parser.add_argument(
        "--only",
        nargs="+",
        default=[],
        metavar="NAME",
        help=f"Sections of run ({', '.join(measurements.SECTIONS)}) or candidates of sweep",
    )
    parser.add_argument(
        "--networks", nargs="+", default=["FP32", "INT8"], choices=tuple(NETWORKS), help="Networks of sweep"
    )
    args = parser.parse_args()
    repository = Repository(args.repository)
    length = measurements.LENGTHS[args.length]
    if args.command == "sweep":
        records = measurements.sweep(repository, args.only, args.networks, length.sweep_s)
        measured = {(record["candidate"], record["network"]) for record in records}
        kept = [record for record in results.swept() if (record["candidate"], record["network"]) not in measured]
        results.write("sweep", {"records": [*kept, *records]})
        return 0
    for name in args.only or measurements.SECTIONS:
        began = time.monotonic()
        content = measurements.SECTIONS[name](repository, length)
        results.write(name, content | {"length": args.length, "took_s": time.monotonic() - began})
    return 0


if __name__ == "__main__":
    sys.exit(main())
