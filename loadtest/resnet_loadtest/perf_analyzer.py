"""NVIDIA's perf_analyzer beside us: two generators that share no code should measure the same server alike."""

from __future__ import annotations

import base64
import csv
import dataclasses
import io
import json
import math
import os
import statistics
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from resnet_client import Client
from rich.table import Table

from resnet_loadtest.errors import LoadTestError
from resnet_loadtest.generate.photos import load
from resnet_loadtest.generate.workloads import WORKLOADS

if TYPE_CHECKING:
    from rich.console import Console

    from resnet_loadtest.options import Options

_SIDE = 224
_AGREES = 0.10


@dataclasses.dataclass(frozen=True)
class Measured:
    """What one generator saw in one turn.

    Attributes:
        throughput: photos per second.
        median_s: p50 of the service time, in seconds.
        requests: how many were measured.
    """

    throughput: float
    median_s: float
    requests: int


def side_by_side(options: Options, program: Path, rounds: int, console: Console) -> int:
    """Take turns, so that a drifting machine is no one's advantage; returns the exit code."""
    ours: list[Measured] = []
    theirs: list[Measured] = []
    model = _called(options)
    with tempfile.TemporaryDirectory(prefix="resnet-loadtest-") as folder:
        data = Path(folder, "data.json")
        data.write_text(json.dumps({"data": _data(options)}), encoding="ascii")
        for number in range(1, rounds + 1):
            # Each has the first turn as often: on a shared machine, speed drifts within a round.
            if is_ours_first := number % 2 == 1:
                ours.append(_our_turn(options))
            theirs.append(_their_turn(options, program, model, data, ours[-1].requests))
            if not is_ours_first:
                ours.append(_our_turn(options))
            console.print(f"  round {number}: ours {_shown(ours[-1])}, perf_analyzer {_shown(theirs[-1])}")
    return _conclude(ours, theirs, console)


def _our_turn(options: Options) -> Measured:
    from resnet_loadtest.conductor import conduct  # gevent then changes the whole process

    run = conduct(dataclasses.replace(options, profile="steady"))
    if run.doubts:
        raise LoadTestError(f"our own turn proves nothing: {run.doubts[0]}")
    return Measured(run.whole.throughput, run.whole.percentile_s(50, of="service"), run.whole.requests)


def _their_turn(options: Options, program: Path, model: str, data: Path, requests: int) -> Measured:
    report = data.with_name("report.csv")
    server = options.url_for("grpc").split("://")[1]
    command: list[str | Path] = [program, "-m", model, "-b", "1", "-i", "grpc", "-u", server]
    command += ["--concurrency-range", str(options.users), "--input-data", data, "-f", report]
    # As many requests as we had; of windows of time it leaves out what straddles their edges.
    command += ["--request-count", str(requests)]
    # It reads the server's statistics, which need the admin token; gRPC wants a prefix to the header.
    if token := os.environ.get("RESNET_ADMIN_TOKEN"):
        command += ["-H", f"triton-grpc-protocol-admin-key:{token}"]
    try:
        finished = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    except (OSError, subprocess.TimeoutExpired) as exc:
        raise LoadTestError(f"perf_analyzer did not run: {exc}") from exc
    if finished.returncode or not report.exists():
        tail = (finished.stdout + finished.stderr)[-500:]
        raise LoadTestError(f"perf_analyzer ended with {finished.returncode}: {tail}")
    content = report.read_text(encoding="utf-8", errors="replace")
    report.unlink()
    return read_report(content, requests)


def read_report(content: str, requests: int) -> Measured:
    """Read the first row of perf_analyzer's CSV report, whose times are in microseconds.

    Raises:
        LoadTestError: it has other columns, or other values.
    """
    try:
        row = next(csv.DictReader(io.StringIO(content)), {})
        measured = Measured(float(row["Inferences/Second"]), float(row["p50 latency"]) / 1e6, requests)
    except (csv.Error, KeyError, TypeError, ValueError) as exc:
        raise LoadTestError(f"perf_analyzer's report cannot be read: {exc}") from exc
    if not (0 < measured.throughput < math.inf and 0 < measured.median_s < math.inf):
        raise LoadTestError(f"perf_analyzer's report makes no sense: {_shown(measured)}")
    return measured


def _called(options: Options) -> str:
    """The model that gets the calls."""
    photo = load(options.images).encoded[0]
    with Client(options.url_for("grpc"), model=options.model) as client:
        if WORKLOADS[options.mix].sends_pixels:
            return client.classify(photo, preprocessing="client").model
        return client.classify(photo).model


def _data(options: Options) -> list[dict[str, Any]]:
    """What we send, the way perf_analyzer reads data."""
    photos = load(options.images, decode=True)
    if not WORKLOADS[options.mix].sends_pixels:
        return [_entry("IMAGE", len(photo).to_bytes(4, "little") + photo, [1]) for photo in photos.encoded]
    entries = []
    for photo in photos.decoded:
        top, left = (photo.shape[0] - _SIDE) // 2, (photo.shape[1] - _SIDE) // 2
        crop = np.ascontiguousarray(photo[top : top + _SIDE, left : left + _SIDE])
        entries.append(_entry("PIXELS__0", crop.tobytes(), [_SIDE, _SIDE, 3]))
    return entries


def _entry(name: str, content: bytes, shape: list[int]) -> dict[str, Any]:
    return {name: {"content": {"b64": base64.b64encode(content).decode()}, "shape": shape}}


def _conclude(ours: list[Measured], theirs: list[Measured], console: Console) -> int:
    table = Table(box=None, pad_edge=False)
    for name in ("median of the rounds", "ours", "perf_analyzer", "ours/theirs"):
        table.add_column(name, justify="left" if name.startswith("median") else "right")
    agrees = True
    for name, unit, factor in (("throughput", "/s", 1.0), ("median_s", " ms", 1000.0)):
        mine, other = ([getattr(measured, name) for measured in turns] for turns in (ours, theirs))
        # Ratios of neighbouring turns: what drifts from round to round does not count.
        ratio = statistics.median(one / two for one, two in zip(mine, other, strict=True))
        agrees = agrees and abs(ratio - 1) <= _AGREES
        values = (f"{statistics.median(turns) * factor:.2f}{unit}" for turns in (mine, other))
        table.add_row(name.replace("median_s", "p50"), *values, f"{ratio:.3f}")
    console.print(table)
    console.print(
        f"[bold green]AGREES[/] within {_AGREES:.0%}" if agrees else f"[bold red]DIFFERS[/] by more than {_AGREES:.0%}"
    )
    return 0 if agrees else 1


def _shown(measured: Measured) -> str:
    return f"{measured.throughput:.2f}/s, p50 {measured.median_s * 1000:.1f} ms"
