"""The server of this project: started by resnet-serve, measured by process and with Triton's statistics."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from resnet_client import Client, ModelStatistics
from resnet_loadtest.server_statistics import difference

from benchmarks import processes
from benchmarks.closed_loop import Sample, Sender, measure
from benchmarks.networks import Pixels
from benchmarks.senders import ClientSender, GrpcSender, HttpSender, over_grpc, over_http

PROTOCOLS = ("grpc", "http")


@dataclasses.dataclass(frozen=True)
class Costs:
    """The time of an image by process and model.

    Attributes:
        core_ms: CPU time per image in core-milliseconds, by process: ``triton``, ``preprocess``, the network's name,
            and ``watchdog``.
        waiting_ms: mean time in each model's queue, per request.
        computing_ms: mean time in each model as Triton counts it, per request.
        batch: mean images per execution of each model.
    """

    core_ms: dict[str, float]
    waiting_ms: dict[str, float]
    computing_ms: dict[str, float]
    batch: dict[str, float]


@dataclasses.dataclass(frozen=True)
class Server:
    """A running server of this project."""

    pid: int
    port: int

    @property
    def url(self) -> str:
        """Its gRPC address."""
        return f"grpc://127.0.0.1:{self.port + 1}"

    def sender(self, protocol: str, model: str, images: Sequence[bytes] | Sequence[Pixels]) -> Sender:
        """The sender of encoded images or pixels over ``grpc`` or ``http``, or of encoded images by ``client``."""
        if protocol == "client":
            return ClientSender(self.url, model, [bytes(image) for image in images])
        if protocol == "grpc":
            return GrpcSender(self.port + 1, [over_grpc(model, image) for image in images])
        return HttpSender(self.port, [over_http(model, image) for image in images])

    def measure(self, sender: Sender, *, callers: int, seconds: float) -> tuple[Sample, Costs]:
        """Send requests, and measure the time of each process and model."""
        cpu_s: list[dict[str, float]] = []
        statistics: list[tuple[ModelStatistics, ...]] = []

        def look() -> None:
            cpu_s.append(processes.cpu_seconds(self.pid))
            with Client(self.url) as client:
                statistics.append(client.statistics())

        sample = measure(sender, callers=callers, seconds=seconds, start=look, end=look)
        core_ms: dict[str, float] = {}
        for command, spent_s in cpu_s[1].items():
            name = _process(command)
            used_ms = 1e3 * (spent_s - cpu_s[0].get(command, 0.0)) / sample.window_s / sample.throughput
            core_ms[name] = core_ms.get(name, 0.0) + used_ms
        steps = difference(*statistics)
        return sample, Costs(
            core_ms,
            waiting_ms={model: 1e3 * step.mean_queue_s for model, step in steps.items()},
            computing_ms={model: 1e3 * step.mean_compute_s for model, step in steps.items()},
            batch={model: step.mean_batch for model, step in steps.items()},
        )


@contextlib.contextmanager
def serve(repository: Path, *options: str) -> Iterator[Server]:
    """Serve a repository until the block ends, with further options of resnet-serve."""
    port = processes.free_port(consecutive=3)
    program = str(Path(sys.executable).with_name("resnet-serve"))
    command = [program, "--repository", str(repository), "--models", "all", "--port", str(port), *options]
    with processes.serve(command, {}, port) as pid:
        server = Server(pid, port)
        with Client(server.url) as client:
            client.wait_until_ready(timeout_s=120)
        yield server


def _process(command: str) -> str:
    """The part of the server to which a process belongs, by its command line."""
    if "python_backend_stub" in command:
        parts = Path(command.split()[1]).parts
        return next((part for part in parts if part.startswith(("network_", "preprocess"))), "other stubs")
    return "triton" if "bin/tritonserver" in command.split(" ", 1)[0] else "watchdog"
