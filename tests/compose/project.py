"""The compose file, run under a name and on ports of a test's own, and taken away with all it made."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PORTS = ("HTTP_PORT", "GRPC_PORT", "METRICS_PORT", "PROMETHEUS_PORT", "GRAFANA_PORT")
UP_S = 900


def engine_missing() -> str | None:
    """Tell why no compose file can be run here, or return None."""
    for command in (["docker", "info"], ["docker", "compose", "version"]):
        try:
            subprocess.run(command, capture_output=True, check=True, timeout=30)
        except FileNotFoundError:
            return "docker is not installed"
        except subprocess.SubprocessError:
            return f"`{' '.join(command)}` fails: no engine is running, or it has no compose v2"
    return None


def free_ports(count: int) -> list[int]:
    """Free ports of this machine."""
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [one.getsockname()[1] for one in sockets]


class Project:
    """One run of the compose file.

    Args:
        name: of the project; containers, volumes and networks begin with it.
        overrides: further compose files.
        variables: of the compose file, such as ``WEIGHTS``.
    """

    def __init__(self, name: str, *overrides: Path, **variables: str) -> None:
        self.name = name
        self.ports = dict(zip(PORTS, free_ports(len(PORTS)), strict=True))
        chosen = {name: str(port) for name, port in self.ports.items()} | variables
        self._environment = {k: v for k, v in os.environ.items() if not k.startswith(("RESNET_", "LOADTEST_"))} | chosen
        files = [ROOT / "docker-compose.yml", *overrides]
        self._command = ["docker", "compose", "--project-name", name, "--project-directory", str(ROOT), "--ansi=never"]
        self._command += [f"--file={file}" for file in files]

    @property
    def grpc_url(self) -> str:
        """Where the server is reached from this machine."""
        return f"grpc://127.0.0.1:{self.ports['GRPC_PORT']}"

    @property
    def http_url(self) -> str:
        """Where the server is reached from this machine."""
        return f"http://127.0.0.1:{self.ports['HTTP_PORT']}"

    def run(self, *arguments: str, timeout_s: float = UP_S, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run ``docker compose`` with these arguments."""
        done = subprocess.run(
            [*self._command, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=self._environment,
            timeout=timeout_s,
            check=False,
        )
        assert not check or done.returncode == 0, f"{' '.join(arguments)}:\n{done.stdout[-4000:]}"
        return done

    def docker(self, *arguments: str) -> str:
        """Run ``docker`` itself; return what it prints."""
        return subprocess.run(["docker", *arguments], capture_output=True, text=True, check=True, timeout=120).stdout

    def container(self, service: str) -> str:
        """The id of a service's container, ended ones included."""
        return self.run("ps", "--all", "--quiet", service).stdout.split()[0]

    def health(self, service: str) -> str:
        """``starting``, ``healthy`` or ``unhealthy``."""
        return self.docker("inspect", "--format", "{{.State.Health.Status}}", self.container(service)).strip()

    def wait_for_health(self, service: str, wanted: str, timeout_s: float) -> float:
        """Wait until a service is healthy, or no longer is; return how long that took, in seconds."""
        started_s = time.monotonic()
        while (now := self.health(service)) != wanted:
            assert time.monotonic() - started_s < timeout_s, f"{service} is still {now}: {self.logs(service)}"
            time.sleep(0.5)
        return time.monotonic() - started_s

    def logs(self, service: str) -> str:
        """Return the output of a service."""
        return self.run("logs", "--no-color", "--no-log-prefix", service).stdout

    def kill_worker(self, service: str) -> None:
        """Kill the process in which `preprocess` runs."""
        processes = self.docker("top", self.container(service), "-eo", "pid,args")
        worker, *_ = (int(line.split()[0]) for line in processes.splitlines() if "stub /models/preprocess/" in line)
        os.kill(worker, signal.SIGKILL)

    def remains(self) -> list[str]:
        """Containers, volumes and networks of this name."""
        label = f"label=com.docker.compose.project={self.name}"
        kinds = (["ps", "--all"], ["volume", "ls"], ["network", "ls"])
        return [line for kind in kinds for line in self.docker(*kind, "--quiet", "--filter", label).split()]


@contextlib.contextmanager
def project(name: str, *overrides: Path, **variables: str) -> Iterator[Project]:
    """A project that is taken away at the end, with its volumes."""
    made = Project(f"{name}{os.getpid()}", *overrides, **variables)
    try:
        yield made
    finally:
        made.run(
            "--profile", "*", "down", "--volumes", "--rmi", "local", "--remove-orphans", "--timeout=20", check=False
        )
