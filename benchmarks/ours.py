"""The project's own server: started as its users start it, measured by process and by Triton's statistics."""

from __future__ import annotations

import contextlib
import dataclasses
import secrets
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from resnet_client import Client, ModelStatistics

from benchmarks import processes, triton_requests
from benchmarks.closed_loop import Door, Sample, measure
from benchmarks.doors import ClientDoor, GrpcDoor, HttpDoor
from benchmarks.networks import Pixels
from benchmarks.ports import free_port

_COMPUTING = ("compute_input", "compute_infer", "compute_output")
PROTOCOLS = ("grpc", "http")


@dataclasses.dataclass(frozen=True)
class Costs:
    """Where the time of a photo went.

    Attributes:
        core_ms: CPU time per photo in core-milliseconds, by process: ``triton``, ``preprocess``, the network's name,
            and ``watch``.
        waiting_ms: mean time in each model's queue, per photo.
        computing_ms: mean time in each model as Triton counts it, by model and part.
        batch: mean photos per execution of each model.
    """

    core_ms: dict[str, float]
    waiting_ms: dict[str, float]
    computing_ms: dict[str, dict[str, float]]
    batch: dict[str, float]


@dataclasses.dataclass(frozen=True)
class Server:
    """A running server of ours."""

    pid: int
    port: int
    token: str

    @property
    def url(self) -> str:
        """Its gRPC address."""
        return f"grpc://127.0.0.1:{self.port + 1}"

    def door(self, protocol: str, model: str, photos: Sequence[bytes] | Sequence[Pixels]) -> Door:
        """A way in with ``grpc`` or ``http``."""
        if protocol == "grpc":
            return GrpcDoor(self.port + 1, [triton_requests.over_grpc(model, photo) for photo in photos])
        return HttpDoor(self.port, [triton_requests.over_http(model, photo) for photo in photos])

    def client_door(self, model: str, jpegs: Sequence[bytes]) -> Door:
        """A way in with the project's client."""
        return ClientDoor(self.url, model, jpegs)

    def measure(self, door: Door, *, callers: int, seconds: float) -> tuple[Sample, Costs]:
        """Call it, and look where the time goes meanwhile."""
        seen: list[tuple[dict[str, float], dict[str, ModelStatistics]]] = []

        def look() -> None:
            seen.append((processes.cpu_seconds(self.pid), self._statistics()))

        sample = measure(door, callers=callers, seconds=seconds, start=look, end=look)
        (cpu_before, before), (cpu_after, after) = seen
        core_ms: dict[str, float] = {}
        for command, spent in cpu_after.items():
            name = _process(command)
            used = 1e3 * (spent - cpu_before.get(command, 0.0)) / sample.window_s / sample.throughput
            core_ms[name] = core_ms.get(name, 0.0) + used
        busy = {name: model for name, model in after.items() if model.inference_count > before[name].inference_count}
        return sample, _costs(core_ms, before, busy)

    def _statistics(self) -> dict[str, ModelStatistics]:
        with Client(self.url, admin_token=self.token) as client:
            return {entry.model: entry for entry in client.statistics()}


@contextlib.contextmanager
def serving(repository: Path) -> Iterator[Server]:
    """Serve a repository until the block ends."""
    port, token = free_port(consecutive=3), secrets.token_hex(16)
    program = str(Path(sys.executable).with_name("resnet-serve"))
    command = [program, "--repository", str(repository), "--port", str(port)]
    with processes.serving(command, {"RESNET_ADMIN_TOKEN": token}, port) as pid:
        server = Server(pid, port, token)
        with Client(server.url) as client:
            client.wait_until_ready(timeout_s=120)
        yield server


def _process(command: str) -> str:
    """Which part a process belongs to, by its command line."""
    if "python_backend_stub" in command:
        parts = Path(command.split()[1]).parts
        return next((part for part in parts if part.startswith(("network_", "preprocess"))), "other stubs")
    return "triton" if "bin/tritonserver" in command.split(" ", 1)[0] else "watch"


def _costs(core_ms: dict[str, float], before: dict[str, ModelStatistics], after: dict[str, ModelStatistics]) -> Costs:
    waiting, computing, batch = {}, {}, {}
    for name, entry in after.items():
        earlier = before[name]
        answered = entry.success_count - earlier.success_count
        executed = entry.execution_count - earlier.execution_count
        if not answered or not executed:
            continue
        waiting[name] = (entry.queue_ns - earlier.queue_ns) / answered / 1e6
        batch[name] = (entry.inference_count - earlier.inference_count) / executed
        computing[name] = {
            part: (getattr(entry, f"{part}_ns") - getattr(earlier, f"{part}_ns")) / answered / 1e6
            for part in _COMPUTING
        }
    return Costs(core_ms, waiting, computing, batch)
