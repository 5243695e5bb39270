"""When the watcher has a model loaded again, and when it does not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from resnet_serve import supervisor
from resnet_serve.supervisor import Watcher

SERVER = 1


class FakeApi:
    """A server with models that can be loaded, and what was asked of it."""

    def __init__(self) -> None:
        self.states = {"preprocess": "READY"}
        self.count = 1
        self.is_answering = True
        self.loads_fail = False
        self.loaded: list[dict[str, Any]] = []

    def ask(self, path: str, body: dict[str, Any] | None = None, **_: float) -> Any:
        """Answer like Triton."""
        if not self.is_answering:
            raise OSError("refused")
        if path == "v2/repository/index":
            return [{"name": name, "version": "1", "state": state} for name, state in self.states.items()]
        if path.endswith("/config"):
            return {
                "instance_group": [{"count": self.count, "gpus": []}],
                "model_warmup": [{"name": "a"}, {"name": "b"}],
            }
        assert path.endswith("/load")
        assert body is not None
        self.loaded.append(json.loads(body["parameters"]["config"]))
        if self.loads_fail:
            raise OSError("500 no memory")
        return None


class Scene:
    """A watcher with workers, a server and a clock that a test sets."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.workers = {10: ("preprocess", "1")}
        self.now_s = 1000.0
        self.api = FakeApi()
        self.said: list[str] = []
        monkeypatch.setattr(supervisor, "workers_of", lambda _: dict(self.workers))
        monkeypatch.setattr(supervisor.time, "monotonic", lambda: self.now_s)
        self.watcher = Watcher(SERVER, self.api, self.said.append)  # type: ignore[arg-type]
        self.watcher.look()

    def die(self) -> None:
        """End all workers; somebody looks."""
        self.workers = {}
        self.watcher.look()

    def revive(self, pid: int) -> None:
        """The load has brought a new worker."""
        self.workers = {pid: ("preprocess", "1")}
        self.watcher.look()


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> Scene:
    """One model with one worker."""
    return Scene(monkeypatch)


def test_a_model_without_its_worker_is_loaded_with_a_changed_config(scene: Scene) -> None:
    """Triton loads nothing that is unchanged; one batch of warm-up is enough while callers wait."""
    scene.die()
    (config,) = scene.api.loaded
    assert set(config["parameters"]) == {"loaded_again"}
    assert config["model_warmup"] == [{"name": "a"}]
    assert len(scene.said) == 1
    assert scene.watcher.has_healed


@pytest.mark.parametrize("state", ["UNLOADING", "UNAVAILABLE", "LOADING"])
def test_orderly_ends_are_left_alone(scene: Scene, state: str) -> None:
    """Whoever unloads a model wants it gone."""
    scene.api.states["preprocess"] = state
    scene.die()
    scene.api.states["preprocess"] = "READY"
    scene.watcher.look()
    assert scene.api.loaded == []


def test_a_reload_by_others_is_left_alone(scene: Scene) -> None:
    """The old worker ends because a new one is there."""
    scene.workers = {11: ("preprocess", "1")}
    scene.watcher.look()
    assert scene.api.loaded == []


def test_fewer_instances_on_purpose_are_left_alone(scene: Scene) -> None:
    """A configuration with one instance less ends one worker."""
    scene.workers[11] = ("preprocess", "1")
    scene.watcher.look()
    del scene.workers[10]
    scene.watcher.look()
    assert scene.api.loaded == []


def test_one_of_two_instances_is_missed(scene: Scene) -> None:
    """Half the workers are not enough."""
    scene.api.count = 2
    scene.workers[11] = ("preprocess", "1")
    scene.watcher.look()
    del scene.workers[10]
    scene.watcher.look()
    assert len(scene.api.loaded) == 1


def test_another_versions_worker_does_not_count(scene: Scene) -> None:
    """While version 2 is being loaded, a dead worker of version 1 is still missed."""
    scene.workers[11] = ("preprocess", "2")
    scene.watcher.look()
    del scene.workers[10]
    scene.watcher.look()
    assert len(scene.api.loaded) == 1


def test_a_server_that_does_not_answer_is_asked_again(scene: Scene) -> None:
    """During start-up nothing happens; afterwards the dead worker is not forgotten."""
    scene.api.is_answering = False
    scene.die()
    assert scene.api.loaded == []
    scene.api.is_answering = True
    scene.watcher.look()
    assert len(scene.api.loaded) == 1


def test_nothing_is_healed_while_stopping(scene: Scene) -> None:
    """All workers end then."""
    scene.watcher.stopping.set()
    scene.die()
    assert scene.api.loaded == []


def test_a_failed_load_is_told_and_tried_again(scene: Scene) -> None:
    """With pauses of 1, 2, 4 … and at most 60 s."""
    scene.api.loads_fail = True
    pauses = []
    scene.die()
    for _ in range(8):
        begin_s, count = scene.now_s, len(scene.api.loaded)
        while len(scene.api.loaded) == count:
            scene.now_s += 0.5
            scene.watcher.look()
        pauses.append(scene.now_s - begin_s)
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60]
    assert "no memory" in scene.said[0]
    assert "next try in 1 s" in scene.said[0]


def test_a_worker_that_holds_for_a_while_starts_anew(scene: Scene) -> None:
    """One that dies soon waits longer; one that has held is replaced at once."""
    scene.die()
    scene.revive(11)
    scene.now_s += 0.5
    scene.die()
    assert len(scene.api.loaded) == 1
    scene.now_s += 0.5
    scene.watcher.look()
    assert len(scene.api.loaded) == 2
    scene.now_s += 100
    scene.revive(12)
    scene.die()
    assert len(scene.api.loaded) == 3
    assert scene.watcher._pause_s["preprocess"] == 1


def test_a_new_child_is_looked_at_until_it_is_a_worker(scene: Scene) -> None:
    """First it is a copy of the server; of other processes only the first sight is taken."""
    code = "import os, sys; print(os.fork() or '', flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        child = int(server.stdout.readline().strip() or server.stdout.readline())
        scene.watcher._server = server.pid
        assert scene.watcher._has_new_child()
        assert scene.watcher._has_new_child()
        scene.workers[child] = ("preprocess", "1")
        scene.watcher.look()
        assert not scene.watcher._has_new_child()
        scene.watcher._server = child
        assert not scene.watcher._has_new_child()


def test_an_end_is_noticed_at_once() -> None:
    """A zombie counts as ended, and nobody has to wait for the next look."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    assert supervisor._wait_for_an_end([process.pid], timeout_s=60)
    assert supervisor._wait_for_an_end([process.pid], timeout_s=60)
    assert not supervisor._wait_for_an_end([os.getpid()], timeout_s=0.01)
    assert os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    process.wait()


def test_a_secret_is_overwritten() -> None:
    """In the arguments of a process that runs, once it has more than one thread."""
    code = "import threading, sys; threading.Thread(target=sys.stdin.read).start()"
    secret = "do-not-tell-this-to-anybody"  # noqa: S105  # made up  # pragma: allowlist secret
    process = subprocess.Popen([sys.executable, "-c", code, f"--key={secret}"], stdin=subprocess.PIPE)
    try:
        supervisor.hide_argument(process.pid, secret)
        arguments = Path(f"/proc/{process.pid}/cmdline").read_bytes().split(b"\0")
        assert arguments[3] == b"--key=" + b"*" * len(secret)
    finally:
        process.communicate()
