"""The candidates: the ceiling, this server with each ensemble and protocol, and the peers; measured in turns."""

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
from resnet_client.preprocessing import PreprocessConfig

from benchmarks import CORES, ROOT, processes, senders
from benchmarks.closed_loop import Sample, Sender, measure, responses, wait_until_answered
from benchmarks.peers_setup import PEERS, Peer
from benchmarks.repository import Repository
from benchmarks.results import Record, best_settings
from benchmarks.server import Server, serve

_SAME_ENOUGH = 0.97
_AWAKE_S = 0.3


class Candidate(Protocol):
    """A way to classify images."""

    @property
    def name(self) -> str:
        """Name in tables."""

    @property
    def network(self) -> str:
        """Name of the network in :mod:`benchmarks.networks`."""

    def measure(self, callers: int, seconds: float) -> Record:
        """Measure ``throughput`` in images per second, ``p50_ms``, costs."""


@dataclasses.dataclass(frozen=True)
class Ceiling:
    """The ceiling: a new process for each measurement, without a server."""

    network: str
    model: Path
    preprocess_config: PreprocessConfig
    settings: Mapping[str, Any]
    name: str = "ceiling"

    def measure(self, callers: int, seconds: float) -> Record:
        """With one caller, classify images one after another; with more, as fast as possible."""
        chosen = dict(self.settings)
        if callers == 1:
            chosen |= {"threads": CORES, "batch": 1}
        command = [sys.executable, "-m", "benchmarks.ceiling", "--network", self.network]
        command += ["--model", str(self.model), "--preprocessing", self.preprocess_config.to_json()]
        command += ["--settings", json.dumps(chosen), "--seconds", str(seconds), *(["--one"] if callers == 1 else [])]
        ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        measured: Record = json.loads(ended.stdout)
        return measured


@dataclasses.dataclass(frozen=True)
class Ours:
    """The server of this project with one ensemble and protocol."""

    name: str
    network: str
    server: Server
    sender: Sender

    def measure(self, callers: int, seconds: float) -> Record:
        """Measure, with costs by process and from Triton's statistics."""
        sample, costs = self.server.measure(self.sender, callers=callers, seconds=seconds)
        return {**metrics_of(sample), "server_ms": sum(costs.core_ms.values()), **dataclasses.asdict(costs)}


@dataclasses.dataclass(frozen=True)
class Served:
    """A running peer."""

    name: str
    network: str
    pid: int
    sender: Sender

    def measure(self, callers: int, seconds: float) -> Record:
        """Measure, with the CPU time of all processes."""
        spent_s: list[float] = []

        def look() -> None:
            spent_s.append(sum(processes.cpu_seconds(self.pid).values()))

        processes.resume(self.pid)
        # Otherwise the first of several workers to resume would accept all connections.
        time.sleep(_AWAKE_S)
        sample = measure(self.sender, callers=callers, seconds=seconds, start=look, end=look)
        processes.pause(self.pid)
        server_ms = 1e3 * (spent_s[1] - spent_s[0]) / sample.window_s / sample.throughput
        return {**metrics_of(sample), "server_ms": server_ms}


@contextlib.contextmanager
def serve_peer(
    peer: Peer, network: str, repository: Repository, jpegs: list[bytes], settings: Mapping[str, int]
) -> Iterator[Served]:
    """Run a peer with these settings."""
    port = processes.free_port()
    environment = peer.environment(
        settings,
        network=network,
        model=repository.model(network),
        preprocess_config=repository.preprocess_config,
        weights=repository.weights,
        port=port,
    )
    with processes.serve(peer.command(port), environment, port) as pid:
        sender = senders.HttpSender(port, [peer.request(jpeg) for jpeg in jpegs])
        wait_until_answered(sender)
        yield Served(peer.name, network, pid, sender)


def check(
    name: str, sender: Sender, top1: Callable[[bytes], int], repository: Repository, jpegs: list[bytes]
) -> Record:
    """Compare a candidate's classes with eager PyTorch's.

    Raises:
        SystemExit: a clear image has another class.
    """
    expected, clear = repository.expected(jpegs)
    same = np.array([top1(response) for response in responses(sender)]) == expected
    if same[clear].mean() < _SAME_ENOUGH:
        raise SystemExit(
            f"{name} is wrong: only {same[clear].mean():.0%} of the clear images have the class of eager PyTorch"
        )
    return {
        "candidate": name,
        "images": len(jpegs),
        "same": float(same.mean()),
        "clear": int(clear.sum()),
        "same_clear": float(same[clear].mean()),
    }


@contextlib.contextmanager
def all_ready(repository: Repository, jpegs: list[bytes]) -> Iterator[tuple[list[Candidate], list[Record]]]:
    """Start and check all candidates; peers are paused between their turns."""
    candidates: list[Candidate] = []
    checks: list[Record] = []
    with contextlib.ExitStack() as stack:
        for network in repository.networks:
            settings = best_settings("ceiling", network)
            candidates.append(Ceiling(network, repository.model(network), repository.preprocess_config, settings))
        server = stack.enter_context(serve(repository.path))
        for model, network in repository.ensembles().items():
            for protocol, top1 in (("grpc", senders.top1_of_grpc), ("http", senders.top1_of_http), ("client", int)):
                if protocol == "client" and model != "resnet50":
                    continue
                name, sender = f"{model}, {protocol}", server.sender(protocol, model, jpegs)
                checks.append({"network": network, **check(name, sender, top1, repository, jpegs)})
                candidates.append(Ours(name, network, server, sender))
        for peer in PEERS:
            for network in peer.served(repository.networks):
                settings = best_settings(peer.name, network)
                served = stack.enter_context(serve_peer(peer, network, repository, jpegs, settings))
                checks.append({"network": network, **check(peer.name, served.sender, peer.top1, repository, jpegs)})
                processes.pause(served.pid)
                candidates.append(served)
        yield candidates, checks


def metrics_of(sample: Sample) -> Record:
    """The record of a sample."""
    return {
        "throughput": sample.throughput,
        "p50_ms": sample.percentile_ms(50),
        "p95_ms": sample.percentile_ms(95),
        "p99_ms": sample.percentile_ms(99),
        "generator_ms": sample.generator_ms,
    }
