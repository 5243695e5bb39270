"""``resnet-serve`` as a process, and what can be seen of it from outside."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import subprocess
import sys
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from processes import WAIT_S, children, descendants
from resnet_client import ClientConfig
from resnet_client.admin import ModelControl
from resnet_serve import ports
from resnet_serve.watchdog import Api, workers_of


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
        return ports.accepts("127.0.0.1", self.port(name), timeout_s=WAIT_S)

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
