"""The watchdog's command line over small scripts in place of a server, and its schedule of loads."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from resnet_serve import ServerConfig, flags, ports, watchdog
from resnet_serve.watchdog import WorkerWatcher

WAIT_S = 30
GRPC_TIMEOUT_S = 1.0

# Greets as many connections as it is told to, and then lets the kernel accept them; ends after a while.
GREETER = """
import socket, sys, time
with socket.create_server(("127.0.0.1", int(sys.argv[1]))) as listener:
    listener.settimeout(float(sys.argv[3]))
    for _ in range(int(sys.argv[2])):
        listener.accept()[0].sendall(b"SETTINGS")
    time.sleep(float(sys.argv[3]))
"""
# Tells its process id, and does not end on SIGTERM.
STUBBORN = "import os, signal, time; signal.signal(15, signal.SIG_IGN); print(os.getpid(), flush=True); time.sleep(600)"


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start a watchdog over a script; it is killed in the end."""
    started = []

    def start_it(*options: str, script: str, arguments: tuple[object, ...] = ()) -> subprocess.Popen[str]:
        command = [sys.executable, watchdog.__file__, "--exit-timeout-s=1", *options]
        command += ["--", sys.executable, "-c", script, *map(str, arguments)]
        pipe = subprocess.PIPE
        process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)
        started.append(process)
        return process

    yield start_it
    for process in started:
        process.kill()
        process.communicate()


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Exit code and errors of a process that ends."""
    _, errors = process.communicate(timeout=WAIT_S)
    return process.returncode, errors


@pytest.mark.parametrize(
    ("script", "code"), [("import sys; sys.exit(7)", 7), ("import os; os.kill(os.getpid(), 9)", 137)]
)
def test_the_exit_code_is_the_servers(start: Callable, script: str, code: int) -> None:
    """And 128 more than the signal that ended it."""
    assert ended(start(script=script)) == (code, "")


@pytest.mark.parametrize("request_stop", [lambda w: w.terminate(), lambda w: w.send_signal(signal.SIGINT), None])
def test_a_stop_is_passed_on(start: Callable, request_stop: Callable | None) -> None:
    """SIGTERM, SIGINT and the end of the parent pipe reach the server as SIGTERM."""
    process = start(
        "--parent-pipe",
        script="import signal, sys\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(3))\nprint('ready', flush=True)\nsignal.pause()",
    )
    assert process.stdout.readline() == "ready\n"
    if request_stop:
        request_stop(process)
        process.wait(WAIT_S)
    assert ended(process) == (3, "")  # communicate() closes the pipe


def test_without_a_parent_pipe_standard_input_means_nothing(start: Callable) -> None:
    """As in a container, where it is closed from the beginning."""
    assert ended(start(script="import time; time.sleep(1)")) == (0, "")


def test_a_server_that_does_not_stop_is_killed(start: Callable) -> None:
    """When its time and that for unloading are up; here the two add up to none."""
    process = start(f"--exit-timeout-s=-{watchdog.UNLOAD_TIMEOUT_S}", script=STUBBORN)
    process.stdout.readline()
    process.terminate()
    assert ended(process) == (137, "")


def test_a_killed_watchdog_takes_the_server_along(start: Callable) -> None:
    """The kernel ends the server, though no process tells it to end."""
    process = start(script=STUBBORN)
    server = os.pidfd_open(int(process.stdout.readline()))
    process.kill()
    assert select.select([server], [], [], WAIT_S)[0]
    os.close(server)


def test_an_unfit_token_is_wrong_usage(start: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message gives the rule and not the token."""
    monkeypatch.setenv("RESNET_ADMIN_TOKEN", "too:short")
    code, errors = ended(start(script=""))
    assert code == 2
    assert "16 or more letters" in errors
    assert "too:short" not in errors


@pytest.mark.parametrize("greetings", [0, 1])
def test_a_server_that_stops_greeting_is_killed(start: Callable, greetings: int) -> None:
    """Long before it would end; one line gives the reason."""
    (port,) = ports.free_ports("127.0.0.1", 1)
    options = (f"--grpc=127.0.0.1:{port}", f"--grpc-timeout-s={GRPC_TIMEOUT_S}")
    code, errors = ended(start(*options, script=GREETER, arguments=(port, greetings, WAIT_S)))
    assert code == 137
    assert errors == "watchdog: tritonserver accepts no gRPC connections any more and is killed\n"


@pytest.mark.parametrize("host", [None, "127.0.0.1", "name.invalid"])
def test_a_server_that_does_not_listen_there_lives(start: Callable, host: str | None) -> None:
    """One that is not watched, one that still starts, and one whose name has no address for a moment."""
    port, other = ports.free_ports("127.0.0.1", 2)
    options = [] if host is None else [f"--grpc={host}:{other}", f"--grpc-timeout-s={GRPC_TIMEOUT_S}"]
    assert ended(start(*options, script=GREETER, arguments=(port, 0, 3 * GRPC_TIMEOUT_S))) == (0, "")


@pytest.mark.parametrize("given", ["--grpc-use-ssl=true", "--grpc-use-ssl true", "--grpc-use-ssl-mutual=true"])
def test_a_server_with_tls_is_not_watched(given: str) -> None:
    """With TLS the client speaks first, by our options as by Triton's own."""
    plain = ServerConfig("models")
    for config, is_watched in (
        (plain, True),
        (ServerConfig("models", triton_args=tuple(given.split())), False),
        (ServerConfig("models", tls_certificate=Path("c"), tls_key=Path("k")), False),
    ):
        found = flags.of_watchdog(config, Path("/f"), Path("/l"), [1, 2, 3])
        assert any(flag.startswith("--grpc=") for flag in found) == is_watched


class Scene:
    """A watcher of one model with one worker; a test sets the clock, and what the server responds."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.workers = {10: ("preprocess", "1")}
        self.now_s = 1000.0
        self.loaded: list[str] = []
        self.error: str | None = None
        self.reported: list[str] = []
        monkeypatch.setattr(watchdog, "_children", lambda _: dict(self.workers))
        monkeypatch.setattr(watchdog.time, "monotonic", lambda: self.now_s)
        self.watcher = WorkerWatcher(1, self, self.reported.append)  # type: ignore[arg-type]
        self.watcher.look()

    def request(self, path: str, _body: object = None, **_: float) -> Any:
        """Respond like Triton, or fail to load."""
        if path.endswith("/index"):
            return [{"name": "preprocess", "version": "1", "state": "READY"}]
        if path.endswith("/config"):
            return {"instance_group": [{"count": 1}]}
        self.loaded.append(path)
        if self.error:
            raise OSError(self.error)
        return None

    def lose_worker(self) -> None:
        """End the worker."""
        self.workers = {}
        self.watcher.look()

    def wait_for_load(self) -> float:
        """Let the time pass until the next load; return how long that took, in seconds."""
        begin_s, count = self.now_s, len(self.loaded)
        while len(self.loaded) == count:
            self.now_s += 0.5
            self.watcher.look()
        return self.now_s - begin_s


def test_pauses_between_failing_loads_grow_to_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each failure is reported with the server's reason and the pause."""
    scene = Scene(monkeypatch)
    scene.error = "500 no memory"
    scene.lose_worker()
    assert [scene.wait_for_load() for _ in range(8)] == [1, 2, 4, 8, 16, 32, 60, 60]
    assert scene.reported[1].endswith("(500 no memory); next try in 2 s")


def test_a_worker_that_lasted_is_replaced_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that dies soon waits; after a minute of life the pauses begin again."""
    scene = Scene(monkeypatch)
    scene.lose_worker()
    scene.workers = {11: ("preprocess", "1")}
    scene.watcher.look()
    scene.lose_worker()
    assert len(scene.loaded) == 1
    assert scene.wait_for_load() == 1
    scene.workers = {12: ("preprocess", "1")}
    scene.now_s += 100
    scene.watcher.look()
    scene.lose_worker()
    assert len(scene.loaded) == 3
    assert scene.wait_for_load() == 1


def test_nothing_is_loaded_while_stopping(monkeypatch: pytest.MonkeyPatch) -> None:
    """All workers end then."""
    scene = Scene(monkeypatch)
    scene.watcher.stopping.set()
    scene.lose_worker()
    assert scene.loaded == []


def test_a_server_that_does_not_respond_is_called_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """While it starts, nothing can be done; afterwards the dead worker is not forgotten."""
    scene = Scene(monkeypatch)
    respond = scene.request

    def refuse(*_: object, **__: object) -> None:
        raise ConnectionRefusedError

    scene.request = refuse  # type: ignore[method-assign]
    scene.lose_worker()
    scene.request = respond  # type: ignore[method-assign]
    scene.watcher.look()
    assert len(scene.loaded) == 1
