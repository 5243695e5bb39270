"""Compare the load test with NVIDIA's perf_analyzer, an independent load generator.

Both call the same server in turns: closed loop, over gRPC, the same concurrency and the same model. To install the
program on Debian, and run both::

    pip download tritonclient==2.51.0 nvidia-cuda-runtime-cu12 --no-deps -d perf
    (cd perf && for wheel in *.whl; do unzip -qo $wheel; done)
    sudo apt-get install libb64-0d
    chmod +x perf/tritonclient-*.data/data/bin/perf_analyzer
    export LD_LIBRARY_PATH=$PWD/perf/nvidia/cuda_runtime/lib
    python -m benchmarks.perf_analyzer perf/tritonclient-*.data/data/bin/perf_analyzer --mix ClassifyGrpc
"""

from __future__ import annotations

import argparse
import base64
import csv
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from resnet_client import Client

from benchmarks import images
from benchmarks.results import Summary

_MIXES = ("PixelsGrpc", "ClassifyGrpc")


class Turn(NamedTuple):
    """What one generator measured in one turn."""

    throughput: float
    p50_ms: float
    requests: int


def main(arguments: Sequence[str] | None = None) -> int:
    """Take turns, print a line for each quantity; return the exit code."""
    args = _parser().parse_args(arguments)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = _prepare(args, folder)
        ours: list[Turn] = []
        theirs: list[Turn] = []
        for _ in range(args.rounds):
            ours.append(_our_turn(args, folder))
            theirs.append(_their_turn(args, folder, model, ours[-1].requests))
    sys.stdout.write("\tours\tperf_analyzer\tours of theirs\n")
    for quantity in ("throughput", "p50_ms"):
        mine, other = ([getattr(turn, quantity) for turn in turns] for turns in (ours, theirs))
        # Ratios of consecutive turns, so that changes in speed of the machine between rounds cancel out.
        ratios = Summary.of(one / two for one, two in zip(mine, other, strict=True))
        sys.stdout.write(f"{quantity}\t{Summary.of(mine).text()}\t{Summary.of(other).text()}\t{ratios.text(3)}\n")
    return 0


def _prepare(args: argparse.Namespace, folder: Path) -> str:
    """Write the requests of both; return the name of the model that gets them."""
    jpegs = images.standard()
    for number, jpeg in enumerate(jpegs):
        (folder / f"{number}.jpg").write_bytes(jpeg)
    sends_pixels = args.mix == "PixelsGrpc"
    with Client(args.url, model=args.model) as client:
        model = client.classify(jpegs[0], preprocessing="client" if sends_pixels else "server").model
        if sends_pixels:  # a network's time does not depend on the values
            data = [_tensor("PIXELS__0", one.tobytes(), [*one.shape]) for one in images.pixels_of(client, model, 8)]
        else:
            data = [_tensor("IMAGE", len(jpeg).to_bytes(4, "little") + jpeg, [1]) for jpeg in jpegs]
    (folder / "data.json").write_text(json.dumps({"data": data}), encoding="ascii")
    return model


def _tensor(name: str, content: bytes, shape: list[int]) -> dict[str, object]:
    return {name: {"content": {"b64": base64.b64encode(content).decode()}, "shape": shape}}


def _our_turn(args: argparse.Namespace, folder: Path) -> Turn:
    command = [sys.executable, "-m", "resnet_loadtest", "run", "--url", args.url, "--model", args.model]
    command += ["--mix", args.mix, "--users", str(args.users), "--duration", f"{args.turn_s}s"]
    command += ["--images", str(folder), "--out", str(folder), "--name", "ours"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    whole = json.loads((folder / "ours.json").read_text(encoding="utf-8"))["whole"]
    return Turn(whole["throughput_per_s"], 1e3 * whole["service_s"]["p50"]["value"], whole["requests"])


def _their_turn(args: argparse.Namespace, folder: Path, model: str, requests: int) -> Turn:
    report = folder / "theirs.csv"
    command = [args.program, "-m", model, "-b", "1", "-i", "grpc", "-u", args.url.partition("://")[2]]
    command += ["--concurrency-range", str(args.users), "--input-data", folder / "data.json", "-f", report]
    # As many requests as the load test had; time windows would exclude requests at their edges.
    command += ["--request-count", str(requests)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=300)
    with report.open(encoding="utf-8", newline="") as stream:
        row = next(csv.DictReader(stream))
    return Turn(float(row["Inferences/Second"]), float(row["p50 latency"]) / 1e3, requests)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.perf_analyzer", description=__doc__)
    parser.add_argument("program", type=Path, help="Path of perf_analyzer")
    parser.add_argument("--url", default="grpc://localhost:8001", help="Server URL (default: %(default)s)")
    parser.add_argument("--model", default="resnet50", help="Ensemble (default: %(default)s)")
    parser.add_argument("--mix", choices=_MIXES, default=_MIXES[0], help="Pixels or encoded images (default: pixels)")
    parser.add_argument("--users", type=int, default=1, help="Concurrent requests (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=10, help="Turns of each (default: %(default)s)")
    parser.add_argument("--turn-s", type=float, default=5.0, help="Duration of a turn (default: %(default)s)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
