"""Who is compared: the ceiling, our server through each door, and the peers; all ready to be measured in turns."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from benchmarks import ceiling, ours, processes, settings, triton_requests
from benchmarks.closed_loop import Door, Sample, answers, measure, until_answered
from benchmarks.doors import HttpDoor
from benchmarks.peers_setup import PEERS, ROOT, Peer
from benchmarks.ports import free_port
from benchmarks.subject import Subject

Record = dict[str, Any]

_SAME_ENOUGH = 0.97
_AWAKE_S = 0.3


class Contender(Protocol):
    """Something that classifies photos."""

    @property
    def name(self) -> str:
        """Who it is."""

    @property
    def network(self) -> str:
        """What it executes, by the name in :mod:`benchmarks.networks`."""

    def measure(self, callers: int, seconds: float) -> Record:
        """What was seen: ``throughput`` in photos per second, ``p50_ms``, costs."""


@dataclasses.dataclass(frozen=True)
class Ceiling:
    """No server: one process, each time a fresh one."""

    network: str
    model: Path
    resize: int
    settings: Mapping[str, Any]
    name: str = "ceiling"

    def measure(self, callers: int, seconds: float) -> Record:
        """With one caller: photos one after another; with more: as fast as it goes."""
        chosen = dict(self.settings)
        if callers == 1:
            chosen |= {"threads": ceiling.CORES, "batch": 1}
        command = [sys.executable, "-m", "benchmarks.ceiling", "--network", self.network]
        command += ["--model", str(self.model), "--resize", str(self.resize)]
        command += ["--settings", json.dumps(chosen), "--seconds", str(seconds), *(["--one"] if callers == 1 else [])]
        ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        seen: Record = json.loads(ended.stdout)
        return seen


@dataclasses.dataclass(frozen=True)
class Ours:
    """One door of our server."""

    name: str
    network: str
    server: ours.Server
    door: Door

    def measure(self, callers: int, seconds: float) -> Record:
        """With costs by process and by Triton's statistics."""
        sample, costs = self.server.measure(self.door, callers=callers, seconds=seconds)
        return {**figures(sample), "server_ms": sum(costs.core_ms.values()), **dataclasses.asdict(costs)}


@dataclasses.dataclass(frozen=True)
class Served:
    """A peer."""

    name: str
    network: str
    pid: int
    door: Door

    def measure(self, callers: int, seconds: float) -> Record:
        """With the CPU time of all its processes."""
        seen: list[float] = []

        def look() -> None:
            seen.append(sum(processes.cpu_seconds(self.pid).values()))

        processes.resume(self.pid)
        # If one of several workers were awake first, it would take all connections.
        time.sleep(_AWAKE_S)
        sample = measure(self.door, callers=callers, seconds=seconds, start=look, end=look)
        processes.pause(self.pid)
        return {**figures(sample), "server_ms": 1e3 * (seen[1] - seen[0]) / sample.window_s / sample.throughput}


@contextlib.contextmanager
def peer(kind: Peer, network: str, subject: Subject, jpegs: list[bytes], chosen: Mapping[str, int]) -> Iterator[Served]:
    """Start a peer with these settings."""
    port = free_port()
    environment = kind.environment(
        chosen,
        network=network,
        model=subject.model(network),
        resize=subject.recipe.resize,
        weights=subject.weights,
        port=port,
    )
    with processes.serving(kind.command(port), environment, port) as pid:
        door = HttpDoor(port, [kind.request(jpeg) for jpeg in jpegs])
        until_answered(door)
        yield Served(kind.name, network, pid, door)


def check(name: str, given: list[bytes], top1: Callable[[bytes], int], subject: Subject, jpegs: list[bytes]) -> Record:
    """Compare a contender's answers with eager PyTorch's.

    Raises:
        SystemExit: a clear photo has another class.
    """
    expected, clear = subject.expected(jpegs)
    same = np.array([top1(answer) for answer in given]) == expected
    if same[clear].mean() < _SAME_ENOUGH:
        raise SystemExit(f"{name} answers wrongly: the same class on {same[clear].mean():.0%} of the clear photos")
    return {
        "contender": name,
        "photos": len(jpegs),
        "same": float(same.mean()),
        "clear": int(clear.sum()),
        "same_clear": float(same[clear].mean()),
    }


@contextlib.contextmanager
def all_ready(subject: Subject, jpegs: list[bytes]) -> Iterator[tuple[list[Contender], list[Record]]]:
    """Start and check everybody; peers that are not asked are halted and use no core."""
    contenders: list[Contender] = []
    checks: list[Record] = []
    with contextlib.ExitStack() as stack:
        for network in subject.networks:
            found = settings.best("ceiling", network)
            contenders.append(Ceiling(network, subject.model(network), subject.recipe.resize, found))
        server = stack.enter_context(ours.serving(subject.repository))
        for model, network in subject.doors().items():
            for protocol, door, top1 in (
                ("grpc", server.door("grpc", model, jpegs), triton_requests.top1_of_grpc),
                ("http", server.door("http", model, jpegs), triton_requests.top1_of_http),
                ("client", server.client_door(model, jpegs), int),
            ):
                if protocol == "client" and model != "resnet50":
                    continue
                name = f"{model}, {protocol}"
                checks.append({"network": network, **check(name, answers(door), top1, subject, jpegs)})
                contenders.append(Ours(name, network, server, door))
        for kind in PEERS:
            for network in kind.served(subject.networks):
                served = stack.enter_context(peer(kind, network, subject, jpegs, settings.best(kind.name, network)))
                checks.append({"network": network, **check(kind.name, answers(served.door), kind.top1, subject, jpegs)})
                processes.pause(served.pid)
                contenders.append(served)
        yield contenders, checks


def figures(sample: Sample) -> Record:
    """The record of a sample."""
    return {
        "throughput": sample.throughput,
        "p50_ms": sample.percentile_ms(50),
        "p95_ms": sample.percentile_ms(95),
        "p99_ms": sample.percentile_ms(99),
        "generator_ms": sample.generator_ms,
    }
