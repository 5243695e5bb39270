"""The command line: ``python -m benchmarks run`` and ``sweep``."""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).with_name("results")


def main() -> int:
    """Run the command; return its exit code."""
    from benchmarks import machine, measurements, sweep
    from benchmarks.networks import NETWORKS
    from benchmarks.subject import Subject

    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("command", choices=("run", "sweep"))
    parser.add_argument("--repository", type=Path, default=Path(".bench-repository"), help="with the variant int8")
    parser.add_argument("--length", choices=tuple(measurements.LENGTHS), default="full")
    parser.add_argument(
        "--only",
        nargs="+",
        default=[],
        metavar="NAME",
        help=f"sections of run ({', '.join(measurements.SECTIONS)}) or contenders of sweep",
    )
    parser.add_argument("--networks", nargs="+", default=["FP32", "INT8"], choices=tuple(NETWORKS), help="of sweep")
    args = parser.parse_args()
    subject = Subject(args.repository)
    length = measurements.LENGTHS[args.length]
    if args.command == "sweep":
        records = sweep.run(subject, args.only, args.networks, length.sweep_s)
        swept = {(record["contender"], record["network"]) for record in records}
        before = _read("sweep").get("records", [])
        kept = [record for record in before if (record["contender"], record["network"]) not in swept]
        _write("sweep", {"records": [*kept, *records]}, machine.described())
        return 0
    for name in args.only or measurements.SECTIONS:
        began = time.monotonic()
        content = measurements.SECTIONS[name](subject, length)
        content |= {"length": args.length, "took_s": time.monotonic() - began}
        _write(name, content, machine.described())
    return 0


def _read(name: str) -> dict[str, Any]:
    path = RESULTS / f"{name}.json"
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return content


def _write(name: str, content: dict[str, Any], machine: dict[str, Any]) -> None:
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps({"machine": machine, **content}, indent=1) + "\n", encoding="utf-8")
    print(f"wrote {path}")


if __name__ == "__main__":
    sys.exit(main())
