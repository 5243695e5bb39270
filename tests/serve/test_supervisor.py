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


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock in seconds that only sleeping moves."""
    now_s = [0.0]
    monkeypatch.setattr(supervisor.time, "monotonic", lambda: now_s[0])
    monkeypatch.setattr(supervisor.time, "sleep", lambda seconds: now_s.__setitem__(0, now_s[0] + seconds))
    return now_s


def warned(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """The warnings since the last call."""
    return [line.removeprefix("resnet-serve: ") for line in capsys.readouterr().err.splitlines()]


def made(server: FakeServer, *, restart: bool = True) -> Supervisor:
    """A supervisor with a server."""
    return Supervisor(server, restart=restart)  # type: ignore[arg-type]


def pauses_s(warnings: list[str]) -> list[int]:
    """The pauses that were announced."""
    return [int(line.rpartition("restart in ")[2].removesuffix(" s")) for line in warnings]


def test_wait_tries_again_until_a_person_must_act(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    """Pauses grow to half a minute; a cause that a person must remove ends the command; models may have failed."""
    server = FakeServer([None, *[PASSING] * 5, UnservableError("run resnet-build")])
    with pytest.raises(UnservableError, match="run resnet-build"):
        made(server).wait()
    printed, errors = capsys.readouterr()
    warnings = errors.splitlines()
    assert pauses_s(warnings) == [1, 2, 4, 8, 16, 30, 30]
    assert clock[0] == pytest.approx(sum(pauses_s(warnings)), abs=2)
    assert warnings[0] == "resnet-serve: tritonserver exited unexpectedly with exit code 137; restart in 1 s"
    assert warnings[-1] == (
        "resnet-serve: tritonserver did not start: a port is taken: choose another; restart in 30 s"
    )
    assert printed.splitlines()[1] == "  network                failed: its artifact is missing"


def test_wait_begins_with_the_first_pause_after_steady_service(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    """A crash after two minutes has nothing to do with the one before."""

    class Lasting(FakeServer):
        """Serves for a while before it ends."""

        def wait(self, *timeout_s: float) -> int:
            clock[0] += 1000
            return super().wait(*timeout_s)

    with pytest.raises(UnservableError):
        made(Lasting([None, None, UnservableError("")])).wait()
    assert pauses_s(warned(capsys)) == [1, 1, 1]


@pytest.mark.parametrize("error", [None, PASSING], ids=["starts again", "does not start again"])
def test_run_goes_on_while_the_server_is_started_again(
    capsys: pytest.CaptureFixture[str], error: Exception | None
) -> None:
    """The exit code of the command counts, and is not held up by a server that does not start again."""
    assert made(FakeServer(itertools.repeat(error))).run(EXIT_7) == 7
    assert warned(capsys)[-1] == "the command of --run ended with exit code 7"


def test_run_reports_a_command_that_cannot_be_started() -> None:
    """The message has the reason."""
    with pytest.raises(ServerError, match="the command of --run could not be started: .*No such file"):
        made(FakeServer([]), restart=False).run(["/nowhere/program"])


def test_run_ends_the_command_if_the_server_cannot_be_started_again() -> None:
    """The command does not run without a server."""
    with pytest.raises(UnservableError):
        made(FakeServer([UnservableError("")])).run([sys.executable, "-c", "import time; time.sleep(600)"])


def test_wait_goes_on_with_the_tries_of_run(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Without ``--exit-after``, the pauses go on where the command's end has left them."""
    failed = tmp_path / "failed"

    class Failing(FakeServer):
        """Shows the command that it does not start again."""

        def restart(self) -> None:
            failed.touch()
            super().restart()

    server = Failing(itertools.repeat(PASSING))
    kept = made(server)
    waiting = "import pathlib, sys, time\nwhile not pathlib.Path(sys.argv[1]).exists(): time.sleep(0.01)"
    assert kept.run([sys.executable, "-c", waiting, str(failed)]) == 0
    assert warned(capsys)
    server.restarts = iter([UnservableError("run resnet-build")])
    with pytest.raises(UnservableError, match="run resnet-build"):
        kept.wait()
    assert warned(capsys) == []
