"""Restarts, without a server: how long they wait, what ends them."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path
from typing import Any

import pytest
from resnet_serve import ServerConfig, ServerError, session
from resnet_serve.errors import UnservableError
from resnet_serve.session import Session


class FakeServer:
    """Ends whenever it is waited for; restarts as its script says."""

    config = ServerConfig("models")
    grpc_url, http_url, metrics_url = "grpc://127.0.0.1:1", "http://127.0.0.1:2", "http://127.0.0.1:3/metrics"
    admin_token = "0123456789abcdef"  # noqa: S105  # opens nothing

    def __init__(self, *restarts: Exception | None) -> None:
        self._restarts = iter(restarts)
        self._has_started = True

    def wait(self, *_: float) -> int:
        """Say that it was killed."""
        if not self._has_started:
            raise ServerError("the server is not running")
        return 137

    def restart(self) -> None:
        """Follow the script."""
        error = next(self._restarts)
        self._has_started = error is None
        if error:
            raise error


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Pauses, which are not slept."""
    found: list[float] = []
    monkeypatch.setattr(session.time, "sleep", found.append)
    return found


def made(server: Any, complaints: list[str]) -> Session:
    """A session that restarts."""
    return Session(server, lambda _: None, complaints.append, restart=True)


def test_pauses_grow_to_half_a_minute() -> None:
    """1, 2, 4 … 30 s."""
    assert list(itertools.islice(session._pauses_s(), 7)) == [1, 2, 4, 8, 16, 30, 30]


def test_passing_reasons_are_tried_again_until_a_lasting_one(slept: list[float]) -> None:
    """Each try is one line; what a person has to mend ends it."""
    passing = ServerError("a port is taken: choose another\nfrom Triton's log:\nlong")
    complaints: list[str] = []
    server = FakeServer(None, passing, passing, UnservableError("run resnet-build"))
    with pytest.raises(UnservableError, match="run resnet-build"):
        made(server, complaints).wait()
    assert slept == [1, 2, 4, 8]
    assert complaints[0] == "tritonserver ended by itself with exit code 137; starting it again in 1 s"
    assert complaints[-1] == "it did not start: a port is taken: choose another; starting it again in 8 s"


def test_a_steady_server_starts_anew_with_the_pauses(slept: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    """After two minutes a crash has nothing to do with the one before."""
    clock = itertools.count(0, 1000)
    monkeypatch.setattr(session.time, "monotonic", lambda: next(clock))
    with pytest.raises(UnservableError):
        made(FakeServer(None, None, UnservableError("")), []).wait()
    assert slept == [1, 1, 1]


def test_a_crash_during_then_is_mended(slept: list[float]) -> None:
    """The command of ``--then`` goes on, and its exit code counts."""
    complaints: list[str] = []
    restarts = itertools.repeat(None)
    command = [sys.executable, "-c", "import sys; sys.exit(7)"]
    assert made(FakeServer(*itertools.islice(restarts, 100_000)), complaints).run(command) == 7
    assert complaints[-1] == "the command of --then ended with exit code 7"


def test_a_crash_that_cannot_be_mended_ends_then(slept: list[float]) -> None:
    """Its command does not go on without a server."""
    command = [sys.executable, "-c", "import time; time.sleep(600)"]
    with pytest.raises(UnservableError):
        made(FakeServer(UnservableError("")), []).run(command)


PASSING = ServerError("a port is taken: choose another")


def test_a_command_that_has_ended_needs_no_server(slept: list[float]) -> None:
    """A server that does not start again is not waited for, so that ``--exit-after`` can exit."""
    complaints: list[str] = []
    command = [sys.executable, "-c", "import sys; sys.exit(7)"]
    assert made(FakeServer(*[PASSING] * 100), complaints).run(command) == 7
    assert complaints[-1] == "the command of --then ended with exit code 7"


def test_after_the_command_the_server_is_tried_again(
    slept: list[float], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Without ``--exit-after`` it is to run on: the tries go on where the command's end cut them short."""
    monkeypatch.setattr(session, "_pauses_s", lambda: itertools.repeat(0.01))
    failed, complaints = tmp_path / "failed", []

    class Failing(FakeServer):
        """Shows the command that it does not start again."""

        def restart(self) -> None:
            failed.touch()
            super().restart()

    command = "import pathlib, sys, time\nwhile not pathlib.Path(sys.argv[1]).exists(): time.sleep(0.01)"
    server = Failing(*[PASSING] * 100_000)
    kept = made(server, complaints)
    assert kept.run([sys.executable, "-c", command, str(failed)]) == 0
    server._restarts = iter([None, UnservableError("run resnet-build")])
    with pytest.raises(UnservableError, match="run resnet-build"):
        kept.wait()
    assert complaints[-2:] == [
        "it did not start: a port is taken: choose another; starting it again in 0 s",
        "tritonserver ended by itself with exit code 137; starting it again in 0 s",
    ]
