"""The watchdog: over scripts in place of a server, its schedule of loads, and on the real server."""

from __future__ import annotations

import os
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
from processes import WAIT_S, is_alive, wait_for, wait_for_end
from resnet_serve import installation, ports, watchdog
from resnet_serve.watchdog import Api, WorkerWatcher

GRPC_TIMEOUT_S = 0.4
DIED = "a worker of preprocess died"

# Answers a given number of connections, and then only lets the kernel accept them; ends after a while.
GREETER = """
import socket, sys, time
with socket.create_server(("127.0.0.1", int(sys.argv[1]))) as listener:
    listener.settimeout(float(sys.argv[3]))
    for _ in range(int(sys.argv[2])):
        listener.accept()[0].sendall(b"SETTINGS")
    time.sleep(float(sys.argv[3]))
"""
# Prints its process id, and does not end on SIGTERM.
STUBBORN = "import os, signal, time; signal.signal(15, signal.SIG_IGN); print(os.getpid(), flush=True); time.sleep(600)"

# Ends its worker on SIGTERM, as Triton does after the last response, and lives on.
LINGERING = """
import signal, subprocess, time
worker = subprocess.Popen(["triton_python_backend_stub", "600"], executable="/bin/sleep")
while b"stub" not in open(f"/proc/{worker.pid}/cmdline", "rb").read(): pass  # the kernel shows it a moment later
def end(*_): worker.kill(); worker.wait()
signal.signal(signal.SIGTERM, end)
print("ready", flush=True)
while True: time.sleep(0.1)  # a signal just before signal.pause() would be handled after it
"""


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
def test_exit_code_is_the_servers(start: Callable, script: str, code: int) -> None:
    """And 128 more than the signal that ended it."""
    assert ended(start(script=script)) == (code, "")


@pytest.mark.parametrize("request_stop", [lambda w: w.terminate(), lambda w: w.send_signal(signal.SIGINT), None])
def test_stop_is_passed_on(start: Callable, request_stop: Callable | None) -> None:
    """SIGTERM, SIGINT and the end of the parent pipe reach the server as SIGTERM."""
    process = start(
        "--parent-pipe",
        script="import signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(3))\nprint('ready', flush=True)\n"
        "while True: time.sleep(0.1)",
    )
    assert process.stdout.readline() == "ready\n"
    if request_stop:
        request_stop(process)
        process.wait(WAIT_S)
    assert ended(process) == (3, "")  # communicate() closes the pipe


def test_server_that_does_not_stop_is_killed(start: Callable) -> None:
    """When its time and that for unloading are up; here the two add up to none."""
    process = start(f"--exit-timeout-s=-{watchdog.UNLOAD_TIMEOUT_S}", script=STUBBORN)
    process.stdout.readline()
    process.terminate()
    assert ended(process) == (137, "")


def test_server_whose_workers_have_ended_is_killed(start: Callable) -> None:
    """The server has sent its last response, so the exit code is that of a regular end, long before the timeout."""
    process = start("--exit-timeout-s=60", script=LINGERING)
    process.stdout.readline()
    process.terminate()
    assert ended(process) == (0, "")


def test_killed_watchdog_takes_the_server_along(start: Callable) -> None:
    """The kernel ends the server, though no process signals it."""
    process = start(script=STUBBORN)
    server = os.pidfd_open(int(process.stdout.readline()))
    process.kill()
    assert select.select([server], [], [], WAIT_S)[0]
    os.close(server)


def test_unfit_token_is_wrong_usage(start: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message gives the rule and not the token."""
    monkeypatch.setenv("RESNET_ADMIN_TOKEN", "too:short")
    code, errors = ended(start(script=""))
    assert code == 2
    assert "16 or more letters" in errors
    assert "too:short" not in errors


def test_server_that_stops_greeting_is_killed(start: Callable) -> None:
    """At once or after a greeting, long before it would end; one line gives the reason."""
    timeout = f"--grpc-timeout-s={GRPC_TIMEOUT_S}"
    started = [
        start(f"--grpc=127.0.0.1:{port}", timeout, script=GREETER, arguments=(port, greetings, WAIT_S))
        for greetings, port in enumerate(ports.free_ports("127.0.0.1", 2))
    ]
    expected = (137, "watchdog: tritonserver no longer accepts gRPC connections; it is killed\n")
    assert list(map(ended, started)) == [expected] * 2


def test_server_that_does_not_listen_there_lives(start: Callable) -> None:
    """One that still starts, and one whose name has no address for a moment."""
    timeout, life_s = f"--grpc-timeout-s={GRPC_TIMEOUT_S}", 3 * GRPC_TIMEOUT_S
    first, second, other = ports.free_ports("127.0.0.1", 3)
    started = [
        start(f"--grpc={host}:{other}", timeout, script=GREETER, arguments=(port, 0, life_s))
        for host, port in (("127.0.0.1", first), ("name.invalid", second))
    ]
    assert list(map(ended, started)) == [(0, "")] * 2


class Scene:
    """A watcher of one model with one worker; a test sets the clock, and what the server responds."""

    config: ClassVar[dict[str, Any]] = {"backend": "python", "instance_group": [{"count": 1}]}

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, worker: int | None = 10) -> None:
        self.worker = worker
        self.now_s = 1000.0
        self.loaded: list[str] = []
        self.error: str | None = None
        self.is_reachable = True
        self.reported: list[str] = []
        served = ("preprocess", "1")
        monkeypatch.setattr(watchdog, "workers_of", lambda _: {self.worker: served} if self.worker else {})
        monkeypatch.setattr(watchdog.time, "monotonic", lambda: self.now_s)
        self.watcher = WorkerWatcher(1, self, self.reported.append)  # type: ignore[arg-type]
        self.watcher.look()

    def request(self, path: str, _body: object = None, **_: float) -> Any:
        """Respond like Triton, or fail to load."""
        if not self.is_reachable:
            raise ConnectionRefusedError
        if path.endswith("/index"):
            return [{"name": "preprocess", "version": "1", "state": "READY"}]
        if path.endswith("/config"):
            return self.config
        self.loaded.append(path)
        if self.error:
            raise OSError(self.error)
        return None

    def replace_worker(self, worker: int | None) -> None:
        """End the worker; another one may be there."""
        self.worker = worker
        self.watcher.look()

    def wait_for_load(self) -> float:
        """Let the time pass until the next load; return how long that took, in seconds."""
        begin_s, count = self.now_s, len(self.loaded)
        while len(self.loaded) == count:
            self.now_s += 0.5
            self.watcher.look()
        return self.now_s - begin_s


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> Scene:
    """One model with one worker."""
    return Scene(monkeypatch)


def test_look_waits_longer_after_each_failing_load(scene: Scene) -> None:
    """Up to a minute; each failure is reported with the server's reason and the pause."""
    scene.error = "500 no memory"
    scene.replace_worker(None)
    assert [scene.wait_for_load() for _ in range(8)] == [1, 2, 4, 8, 16, 32, 60, 60]
    assert scene.reported[1].endswith("(500 no memory); next try in 2 s")


def test_look_replaces_a_worker_that_lasted_at_once(scene: Scene) -> None:
    """One that dies soon waits; after a minute of life the pauses begin again."""
    scene.replace_worker(None)
    scene.replace_worker(11)
    scene.replace_worker(None)
    assert len(scene.loaded) == 1
    assert scene.wait_for_load() == 1
    scene.replace_worker(12)
    scene.now_s += 100
    scene.watcher.look()
    scene.replace_worker(None)
    assert len(scene.loaded) == 3
    assert scene.wait_for_load() == 1


def test_look_replaces_a_worker_that_was_never_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """It died between the start of the server and the first look; models without workers are left alone."""
    assert len(Scene(monkeypatch, worker=None).loaded) == 1
    monkeypatch.setattr(Scene, "config", {"platform": "ensemble"})
    assert Scene(monkeypatch, worker=None).loaded == []


def test_look_loads_nothing_while_stopping(scene: Scene) -> None:
    """All workers end then."""
    scene.watcher.stopping.set()
    scene.replace_worker(None)
    assert scene.loaded == []


def test_look_calls_a_server_again_that_did_not_respond(scene: Scene) -> None:
    """While it starts, nothing can be done; afterwards the dead worker is not forgotten."""
    scene.is_reachable = False
    scene.replace_worker(None)
    scene.is_reachable = True
    scene.watcher.look()
    assert len(scene.loaded) == 1


def with_instances(path: Path, count: int) -> None:
    """Have a model served by this many workers."""
    path.write_text(re.sub(r"(instance_group \{\s+count: )\d+", rf"\g<1>{count}", path.read_text()))


def test_dead_worker_is_replaced(serving: Callable, one_model: Path) -> None:
    """The model responds again within 10 s after the watchdog may act; one line is printed."""
    with serving(one_model) as running:
        wait_for(running.answers, "there is no answer")
        (dead,) = running.workers
        os.kill(running.watchdog, signal.SIGSTOP)
        os.kill(dead, signal.SIGKILL)
        assert not running.answers()
        os.kill(running.watchdog, signal.SIGCONT)
        begin_s = time.monotonic()
        wait_for(running.answers, "the worker was not replaced")
        assert time.monotonic() - begin_s < 10
        assert dead not in running.workers
        wait_for(lambda: DIED in running.log.read_text(), "nothing was logged")
        (line,) = (line for line in running.errors.read_text().splitlines() if DIED in line)
        assert line in running.log.read_text()
        with running.control() as control:
            assert len(control.config("preprocess").get("model_warmup", [])) <= 1  # callers wait
        assert running.stop() == 0


def test_watchdog_replaces_one_of_several_instances_of_an_older_version(serving: Callable, one_model: Path) -> None:
    """Every worker is there afterwards; a named config, which `config.pbtxt` is not, stays."""
    shutil.copytree(one_model / "preprocess/1", one_model / "preprocess/2")
    (one_model / "preprocess/configs").mkdir()
    tuned = one_model / "preprocess/configs/tuned.pbtxt"
    text = (one_model / "preprocess/config.pbtxt").read_text()
    policy = "version_policy {\n  all {\n  }\n}\n"
    tuned.write_text(re.sub(r"version_policy \{.*?\n\}\n", "", text, flags=re.DOTALL) + policy)
    with_instances(tuned, 2)
    complete = [("preprocess", "1")] * 2 + [("preprocess", "2")] * 2
    with serving(one_model) as running:
        assert "  using configs/tuned.pbtxt: preprocess" in running.lines
        wait_for(lambda: sorted(running.workers.values()) == complete, "not every worker is there")
        os.kill(next(pid for pid, served in running.workers.items() if served[1] == "1"), signal.SIGKILL)
        wait_for(lambda: DIED in running.errors.read_text(), "the worker was not replaced")
        wait_for(lambda: sorted(running.workers.values()) == complete, "not every worker is there")
        wait_for(running.answers, "there is no answer")


def test_loads_by_others_are_left_alone(serving: Callable, one_model: Path) -> None:
    """Unloading, loading, and a config with fewer instances end workers, and the watchdog loads nothing."""
    with_instances(one_model / "preprocess/config.pbtxt", 2)
    with serving(one_model) as running, running.control() as control:
        assert len(running.workers) == 2
        config = control.config("preprocess")
        config["instance_group"][0]["count"] = 1
        control.load("preprocess", config)
        wait_for(lambda: len(running.workers) == 1, "the worker of the second instance did not end")
        control.unload("preprocess")
        wait_for(lambda: not running.workers, "the worker did not end")
        (entry,) = control.index()
        assert entry.state in {"UNLOADING", "UNAVAILABLE"}
        control.load("preprocess")
        wait_for(running.answers, "there is no answer")
        assert "died" not in running.errors.read_text()


def test_crashed_server_is_started_again(serving: Callable, one_model: Path) -> None:
    """With ``--restart``, at the same addresses; no process or shared memory of the crashed server is left."""
    with serving(one_model, "--restart") as running:
        dead, regions = running.processes(), running.shared_memory()
        os.kill(running.server, signal.SIGKILL)
        wait_for(lambda: "restart in 1 s" in running.errors.read_text(), "no restart was announced")
        assert "exit code" in running.errors.read_text()
        wait_for(running.answers, "the server did not come back")
        wait_for_end(dead)
        assert not any(region.exists() for region in regions)
        assert all(map(is_alive, running.processes()))
        assert running.stop() == 0
        assert not running.shared_memory()


def test_restart_that_cannot_succeed_ends_the_command(serving: Callable, one_model: Path) -> None:
    """Exit code 3 and the reason, when a person has to fix something first."""
    with serving(one_model, "--restart") as running:
        shutil.rmtree(one_model / "preprocess/1")
        os.kill(running.server, signal.SIGKILL)
        assert running.process.wait(WAIT_S) == 3
        assert "run resnet-build" in running.errors.read_text()


def start_container(folder: Path, repository: Path, *options: str) -> tuple[subprocess.Popen[bytes], str]:
    """Start the watchdog and the server as compose does, with output to the file ``printed``; return the URL, too."""
    installed, (http, grpc) = installation.find(), ports.free_ports("127.0.0.1", 2)
    installed.compose(folder / "backends")
    url, script = f"http://127.0.0.1:{http}", shutil.copy(watchdog.__file__, folder)
    environment = {key: value for key, value in installed.environment().items() if key != "RESNET_ADMIN_TOKEN"}
    command = [
        *(sys.executable, "-I", script, "--http", url, *options, "--", str(installed.binary), "--allow-metrics=false"),
        *(f"--model-repository={repository}", f"--backend-directory={folder / 'backends'}"),
        *("--model-control-mode=explicit", "--load-model=*", "--exit-on-error=false"),
        "--disable-auto-complete-config",
        *(f"--http-port={http}", f"--grpc-port={grpc}", "--http-address=127.0.0.1", "--grpc-address=127.0.0.1"),
    ]
    with (folder / "printed").open("w") as stream:
        pipes = {"stdin": subprocess.DEVNULL, "stdout": stream, "stderr": stream}
        return subprocess.Popen(command, env=environment, **pipes), url


def test_watchdog_alone_serves_a_container(one_model: Path, tmp_path: Path) -> None:
    """As compose runs it: a token of its own, closed APIs, dead workers replaced, SIGTERM passed on, exit code 0."""
    container, url = start_container(tmp_path, one_model, "--default-model=preprocess")
    printed = tmp_path / "printed"
    try:
        unauthenticated = Api(url, "a token of another server")
        wait_for(lambda: is_ready(unauthenticated), "it did not start")
        with pytest.raises(OSError, match="403"):
            unauthenticated.request("v2/repository/index", {})
        (server,) = map(int, Path(f"/proc/{container.pid}/task/{container.pid}/children").read_text().split())
        (worker,) = watchdog.workers_of(server)
        os.kill(worker, signal.SIGKILL)
        wait_for(lambda: watchdog.workers_of(server).keys() - {worker}, "the worker was not replaced")
        wait_for(lambda: DIED in printed.read_text(), "nothing was printed")
        container.send_signal(signal.SIGTERM)
        assert container.wait(WAIT_S) == 0
        assert not is_alive(server)
    finally:
        container.kill()
        container.wait(WAIT_S)


def test_container_without_its_default_model_ends(plain_repository: Path, one_model: Path, tmp_path: Path) -> None:
    """With exit code 1, and the reason of its network, because Triton gives none for an ensemble."""
    for model in ("resnet50", "network_onnx"):
        shutil.copytree(plain_repository / model, one_model / model, ignore=shutil.ignore_patterns("*.onnx"))
    (one_model / "network_onnx/1/model.onnx").write_bytes(b"damaged")
    container, _ = start_container(tmp_path, one_model, "--default-model=resnet50")
    try:
        assert container.wait(WAIT_S) == 1
    finally:
        container.kill()
        container.wait(WAIT_S)
    (line,) = (line for line in (tmp_path / "printed").read_text().splitlines() if line.startswith("watchdog: "))
    expected = "watchdog: the default model resnet50 could not be loaded, so the server ends; network_onnx: "
    assert line.startswith(expected)
    assert "model.onnx cannot be loaded" in line.removeprefix(expected)


def is_ready(api: Api) -> bool:
    """Whether a server responds that all its models are ready."""
    try:
        api.request("v2/health/ready")
    except OSError:
        return False
    return True
