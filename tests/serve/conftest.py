"""``resnet-serve`` as a process, and what can be seen of it from outside."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
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
from types import ModuleType
from typing import Any

import pytest
from resnet_client import ClientConfig
from resnet_client.admin import ModelControl
from resnet_serve.watchdog import Api, workers_of

from .small_network import config as network_config
from .small_network import network

WAIT_S = 120


class TritonModelException(Exception):  # noqa: N818  # Triton's own name
    """The exception that Triton's Python backend expects of a model that cannot be loaded."""


@pytest.fixture(scope="module")
def import_backend() -> Iterator[Callable[[str], Any]]:
    """Import a module of the Python backends, which are made for Triton's process; its utilities are stood in for."""
    utilities: Any = ModuleType("triton_python_backend_utils")
    utilities.TritonModelException = TritonModelException
    with pytest.MonkeyPatch.context() as patched:
        patched.setitem(sys.modules, utilities.__name__, utilities)
        yield lambda name: importlib.import_module(f"resnet_serve.backends.{name}")


@dataclasses.dataclass
class Running:
    """A ``resnet-serve`` that is ready.

    Attributes:
        process: the command.
        lines: what it has printed until it was ready.
        log: Triton's log.
        errors: its standard error.
    """

    process: subprocess.Popen[str]
    lines: list[str]
    log: Path
    errors: Path

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
    def folder(self) -> Path:
        """The temporary folder."""
        arguments = Path(f"/proc/{self.watchdog}/cmdline").read_text().split("\0")
        return Path(next(text for text in arguments if text.startswith("--folder=")).removeprefix("--folder="))

    def control(self) -> ModelControl:
        """Model control, with the token of the test run."""
        return ModelControl(ClientConfig(self.url("gRPC"), admin_token=os.environ["RESNET_ADMIN_TOKEN"]))

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
        """Whether the model ``preprocess`` responds within a second; it refuses text, which is not an image."""
        tensor = {"name": "IMAGE", "shape": [1, 1], "datatype": "BYTES", "data": ["no image"]}
        try:
            Api(self.url("HTTP"), "").request("v2/models/preprocess/infer", {"inputs": [tensor]}, timeout_s=1)
        except OSError as exc:
            return "[image]" in str(exc)
        raise AssertionError("text was taken for an image")

    def stop(self) -> int:
        """Request the end; return the exit code."""
        self.process.terminate()
        return self.process.wait(WAIT_S)


def children(pid: int) -> list[int]:
    """Processes that one has started, oldest first."""
    found = [task.read_text().split() for task in Path(f"/proc/{pid}/task").glob("*/children")]
    return sorted(int(child) for group in found for child in group)


def descendants(pid: int) -> list[int]:
    """All processes below one."""
    return [found for child in children(pid) for found in (child, *descendants(child))]


def is_alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_for(condition: Callable[[], Any], what: str) -> None:
    """Wait, boundedly, for something that the kernel or another process does."""
    deadline_s = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline_s, what
        time.sleep(0.02)


def wait_for_end(processes: list[int]) -> None:
    """Wait until none of the processes runs."""
    wait_for(lambda: not any(map(is_alive, processes)), "a process is left")


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for the temporary files of this test alone, in TMPDIR."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


@pytest.fixture
def one_model(plain_repository: Path, tmp_path: Path) -> Path:
    """A repository that starts quickly: the preprocessing model alone."""
    shutil.copytree(plain_repository / "preprocess", tmp_path / "one_model/preprocess")
    return tmp_path / "one_model"


def add_network(repository: Path, name: str, **config: Any) -> None:
    """Add a small network; ``config`` is as for :func:`small_network.config`."""
    (repository / name / "1").mkdir(parents=True)
    (repository / name / "config.pbtxt").write_text(network_config(name, **config))
    (repository / name / "1/model.onnx").write_bytes(network())


def command(repository: Path, *arguments: str) -> list[str]:
    """``resnet-serve`` on a repository, with free ports."""
    return [sys.executable, "-m", "resnet_serve", "--repository", str(repository), "--port", "0", *arguments]


def run(repository: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run ``resnet-serve`` to the end."""
    return subprocess.run(command(repository, *arguments), capture_output=True, text=True, timeout=WAIT_S, check=False)


@contextmanager
def serve(folder: Path, repository: Path, *arguments: str) -> Iterator[Running]:
    """Start ``resnet-serve``, wait until it has printed its addresses, and kill it in the end.

    Args:
        folder: for what it prints.
        repository: what it serves.
        arguments: its options.
    """
    log, errors = folder / "triton.log", folder / "errors"
    with (
        errors.open("w") as stream,
        subprocess.Popen(
            command(repository, "--log", str(log), *arguments), stdout=subprocess.PIPE, stderr=stream, text=True
        ) as process,
        contextlib.ExitStack() as ending,
    ):
        ending.callback(process.kill)
        assert process.stdout is not None
        lines: list[str] = []
        for line in process.stdout:
            lines.append(line.rstrip())
            if line.startswith("  log"):
                break
        yield Running(process, lines, log, errors)


@pytest.fixture
def serving(tmp_path: Path) -> Callable[..., AbstractContextManager[Running]]:
    """Start ``resnet-serve`` for this test alone, as :func:`serve` does."""
    return lambda repository, *arguments: serve(tmp_path, repository, *arguments)
