"""``resnet-serve`` as a process, and what can be seen of it from outside."""

from __future__ import annotations

import dataclasses
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import IO, Any

import pytest
from resnet_serve.watchdog import Api, workers_of

WAIT_S = 120


@dataclasses.dataclass
class Running:
    """A ``resnet-serve`` that is ready.

    Attributes:
        process: the command.
        lines: what it has printed until it was ready.
        log: Triton's log.
        stderr: what it has said there.
    """

    process: subprocess.Popen[str]
    lines: list[str]
    log: Path
    stderr: Path

    def url(self, name: str) -> str:
        """An address that was printed."""
        return next(line.split()[1] for line in self.lines if line.strip().startswith(name))

    @property
    def watchdog(self) -> int:
        """Process id of the watchdog."""
        return children(self.process.pid)[0]

    @property
    def server(self) -> int:
        """Process id of ``tritonserver``."""
        return children(self.watchdog)[0]

    @property
    def workers(self) -> dict[int, tuple[str, str]]:
        """Model and version of each worker, by process id."""
        return workers_of(self.server)

    @property
    def worker(self) -> int:
        """Process id of the only model's worker."""
        (worker,) = self.workers
        return worker

    @property
    def folder(self) -> Path:
        """The temporary folder."""
        arguments = Path(f"/proc/{self.watchdog}/cmdline").read_text().split("\0")
        return Path(next(text for text in arguments if text.startswith("--folder=")).removeprefix("--folder="))

    @property
    def api(self) -> Api:
        """The HTTP API, with the token of the test run."""
        return Api(self.url("HTTP"), os.environ["RESNET_ADMIN_TOKEN"])

    def processes(self) -> list[int]:
        """All processes below the command."""
        return descendants(self.process.pid)

    def shared_memory(self) -> list[Path]:
        """Regions of the server."""
        return list(Path("/dev/shm").glob(f"resnet_serve_{self.process.pid}_*"))

    def port(self, name: str) -> int:
        """The port of an address that was printed."""
        return urllib.parse.urlsplit(self.url(name)).port

    def listens(self, name: str) -> bool:
        """Whether a process accepts connections at an address that was printed."""
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port(name))) == 0

    def answers(self) -> bool:
        """Whether the model ``preprocess`` responds, and soon; it refuses text, which is not an image."""
        tensor = {"name": "IMAGE", "shape": [1, 1], "datatype": "BYTES", "data": ["no photo"]}
        try:
            Api(self.url("HTTP"), "").request("v2/models/preprocess/infer", {"inputs": [tensor]}, timeout_s=5)
        except OSError as exc:
            return "[image]" in str(exc)
        raise AssertionError("text was taken for an image")


def children(pid: int) -> list[int]:
    """Processes that one has started, oldest first."""
    found = [task.read_text().split() for task in Path(f"/proc/{pid}/task").glob("*/children")]
    return sorted(int(child) for group in found for child in group)


def descendants(pid: int) -> list[int]:
    """All processes below one."""
    return [found for child in children(pid) for found in (child, *descendants(child))]


@pytest.fixture
def alive() -> Callable[[int], bool]:
    """Whether a process runs; a zombie does not."""

    def runs(pid: int) -> bool:
        try:
            return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
        except (FileNotFoundError, ProcessLookupError):
            return False

    return runs


@pytest.fixture
def wait_for() -> Callable[..., None]:
    """Wait, boundedly, for something that the kernel or another process does."""

    def wait(condition: Callable[[], Any], what: str) -> None:
        deadline = time.monotonic() + WAIT_S
        while not condition():
            assert time.monotonic() < deadline, what
            time.sleep(0.05)

    return wait


@pytest.fixture
def wait_for_end(alive: Callable[[int], bool], wait_for: Callable[..., None]) -> Callable[[list[int]], None]:
    """Wait until none of the processes runs."""
    return lambda processes: wait_for(lambda: not [pid for pid in processes if alive(pid)], "a process is left")


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for the temporary files of this test alone, in TMPDIR."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    return folder


@pytest.fixture
def one_model(plain_repository: Path, tmp_path: Path) -> Path:
    """A repository that starts quickly: the preprocessing model alone."""
    folder = tmp_path / "one_model"
    shutil.copytree(plain_repository / "preprocess", folder / "preprocess")
    return folder


def command(repository: Path, *arguments: str) -> list[str]:
    """``resnet-serve`` on a repository."""
    return [sys.executable, "-m", "resnet_serve", "--repository", str(repository), *arguments]


@pytest.fixture
def run() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run ``resnet-serve`` to the end."""

    def run_it(repository: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command(repository, *arguments), capture_output=True, text=True, timeout=WAIT_S, check=False
        )

    return run_it


@pytest.fixture
def serving(tmp_path: Path) -> Callable[..., AbstractContextManager[Running]]:
    """Start ``resnet-serve``, wait until it has printed its addresses, and end it whatever happens."""

    @contextmanager
    def serve(repository: Path, *arguments: str) -> Iterator[Running]:
        log, stderr = tmp_path / "triton.log", tmp_path / "stderr"
        with stderr.open("w") as said:
            process = _start(command(repository, "--port", "0", "--log", str(log), *arguments), said)
        assert process.stdout is not None
        lines: list[str] = []
        try:
            for line in process.stdout:
                lines.append(line.rstrip())
                if line.startswith("  log"):
                    break
            yield Running(process, lines, log, stderr)
        finally:
            process.kill()
            process.wait(WAIT_S)
            process.stdout.close()

    return serve


def _start(arguments: list[str], stderr: IO[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=stderr, text=True)
