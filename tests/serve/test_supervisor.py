"""Restarts and the command of ``--run``, without a server: how long they wait, what ends them."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar

import pytest
from resnet_serve import ServerConfig, ServerError, supervisor
from resnet_serve.config import UnservableError
from resnet_serve.supervisor import Supervisor

PASSING = ServerError("a port is taken: choose another\nerrors in Triton's log:\nlong")
EXIT_7 = [sys.executable, "-c", "import sys; sys.exit(7)"]


class FakeServer:
    """A server that ends at every wait, and whose restarts follow a script."""

    config = ServerConfig("models")
    grpc_url, http_url, metrics_url = "grpc://127.0.0.1:1", "http://127.0.0.1:2", "http://127.0.0.1:3/metrics"
    admin_token = "0123456789abcdef"  # noqa: S105  # opens nothing
    failed_models: ClassVar[dict[str, str]] = {"network": "its artifact is missing"}

    def __init__(self, restarts: Iterable[Exception | None]) -> None:
        self.restarts = iter(restarts)
        self.has_started = True

    def wait(self, *_: float) -> int:
        """Report that it was killed."""
        if not self.has_started:
            raise ServerError("the server is not running")
        return 137

    def restart(self) -> None:
        """Follow the script."""
        error = next(self.restarts)
        self.has_started = error is None
        if error:
            raise error


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Pauses, which are not slept."""
    found: list[float] = []
    monkeypatch.setattr(supervisor.time, "sleep", found.append)
    return found


@pytest.fixture
def warned() -> list[str]:
    """The warnings of the supervisor."""
    return []


def made(server: FakeServer, warned: list[str], *, restart: bool = True) -> Supervisor:
    """A supervisor with a server."""
    return Supervisor(server, lambda _: None, warned.append, restart=restart)  # type: ignore[arg-type]


def test_wait_tries_again_until_a_lasting_reason(slept: list[float], warned: list[str]) -> None:
    """With pauses that grow to half a minute and a line for each try; what a person has to fix ends it."""
    server = FakeServer([None, *[PASSING] * 5, UnservableError("run resnet-build")])
    with pytest.raises(UnservableError, match="run resnet-build"):
        made(server, warned).wait()
    assert slept == [1, 2, 4, 8, 16, 30, 30]
    assert warned[0] == "tritonserver exited unexpectedly with exit code 137; restart in 1 s"
    assert warned[-1] == "tritonserver did not start: a port is taken: choose another; restart in 30 s"


@pytest.mark.usefixtures("slept")
def test_wait_prints_why_models_failed_after_a_restart() -> None:
    """They may be others than at the first start."""
    reported: list[str] = []
    server = FakeServer([None, UnservableError("")])
    with pytest.raises(UnservableError):
        Supervisor(server, reported.append, reported.append, restart=True).wait()  # type: ignore[arg-type]
    assert reported[2] == "  network                failed: its artifact is missing"


def test_wait_begins_with_the_first_pause_after_steady_service(
    slept: list[float], warned: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """After two minutes a crash has nothing to do with the one before."""
    clock = itertools.count(0, 1000)
    monkeypatch.setattr(supervisor.time, "monotonic", lambda: next(clock))
    with pytest.raises(UnservableError):
        made(FakeServer([None, None, UnservableError("")]), warned).wait()
    assert slept == [1, 1, 1]


@pytest.mark.parametrize("error", [None, PASSING], ids=["starts again", "does not start again"])
def test_run_goes_on_while_the_server_is_started_again(warned: list[str], error: Exception | None) -> None:
    """The exit code of the command counts, and is not held up by a server that does not start again."""
    assert made(FakeServer(itertools.repeat(error)), warned).run(EXIT_7) == 7
    assert warned[-1] == "the command of --run ended with exit code 7"


def test_run_reports_a_program_that_cannot_be_run(warned: list[str]) -> None:
    """With the exit code that a shell has for it."""
    assert made(FakeServer([]), warned, restart=False).run(["/nowhere/program"]) == 127
    assert warned[0].startswith("the command of --run could not be started: ")


def test_run_ends_the_command_if_the_server_cannot_be_started_again(warned: list[str]) -> None:
    """The command does not run without a server."""
    with pytest.raises(UnservableError):
        made(FakeServer([UnservableError("")]), warned).run([sys.executable, "-c", "import time; time.sleep(600)"])


def test_wait_goes_on_with_the_tries_of_run(slept: list[float], warned: list[str], tmp_path: Path) -> None:
    """Without ``--exit-after`` the server is to run on: the command's end cuts a pause short, and no more."""
    failed = tmp_path / "failed"

    class Failing(FakeServer):
        """Shows the command that it does not start again."""

        def restart(self) -> None:
            failed.touch()
            super().restart()

    server = Failing(itertools.repeat(PASSING))
    kept = made(server, warned)
    waiting = "import pathlib, sys, time\nwhile not pathlib.Path(sys.argv[1]).exists(): time.sleep(0.01)"
    assert kept.run([sys.executable, "-c", waiting, str(failed)]) == 0
    server.restarts = iter([None, UnservableError("run resnet-build")])
    with pytest.raises(UnservableError, match="run resnet-build"):
        kept.wait()
    assert warned[-2].startswith("tritonserver did not start: a port is taken: choose another; restart in ")
    assert warned[-1].startswith("tritonserver exited unexpectedly with exit code 137; restart in ")
