"""The watchdog on the real server: workers, servers and the watchdog itself that die, and loads by others."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from resnet_serve import installation, ports, watchdog
from resnet_serve.watchdog import Api

WAIT_S = 120
DIED = "a worker of preprocess died"


def with_instances(model: Path, count: int) -> None:
    """Have a model served by this many workers."""
    path = model / "config.pbtxt"
    path.write_text(re.sub(r"(instance_group \{\s+count: )\d+", rf"\g<1>{count}", path.read_text()))


def test_a_dead_worker_is_replaced(serving: Callable, wait_for: Callable, one_model: Path) -> None:
    """The model responds again within 10 s after the watchdog may act; one line is printed; SIGTERM works as before."""
    with serving(one_model) as running:
        assert running.answers()
        dead = running.worker
        os.kill(running.watchdog, signal.SIGSTOP)
        os.kill(dead, signal.SIGKILL)
        assert not running.answers()
        os.kill(running.watchdog, signal.SIGCONT)
        begin_s = time.monotonic()
        wait_for(running.answers, "the worker was not replaced")
        assert time.monotonic() - begin_s < 10
        assert running.worker != dead
        wait_for(lambda: DIED in running.log.read_text(), "nothing was logged")
        (line,) = (line for line in running.stderr.read_text().splitlines() if DIED in line)
        assert line in running.log.read_text()
        config = running.api.request("v2/models/preprocess/config")
        assert len(config["model_warmup"]) <= 1  # callers wait
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(WAIT_S) == 0


def test_each_instance_and_version_is_replaced(serving: Callable, wait_for: Callable, one_model: Path) -> None:
    """One of two workers of a version is replaced though the others live, and that of an older version, too."""
    with_instances(one_model / "preprocess", 2)
    shutil.copytree(one_model / "preprocess/1", one_model / "preprocess/2")
    config = one_model / "preprocess/config.pbtxt"
    policy = "version_policy {\n  all {\n  }\n}\n"
    config.write_text(re.sub(r"version_policy \{.*?\n\}\n", "", config.read_text(), flags=re.DOTALL) + policy)
    complete = [("preprocess", "1")] * 2 + [("preprocess", "2")] * 2
    with serving(one_model) as running:
        for version in ("1", "2"):
            wait_for(lambda: sorted(running.workers.values()) == complete, "not every worker is there")
            before = running.stderr.read_text().count(DIED)
            dead = next(pid for pid, served in running.workers.items() if served[1] == version)
            os.kill(dead, signal.SIGKILL)
            wait_for(lambda n=before: running.stderr.read_text().count(DIED) > n, "the worker was not replaced")
        wait_for(lambda: sorted(running.workers.values()) == complete, "not every worker is there")


def test_loads_by_others_are_left_alone(serving: Callable, wait_for: Callable, one_model: Path) -> None:
    """Unloading, loading, and a config with fewer instances end workers, and the watchdog loads nothing."""
    with_instances(one_model / "preprocess", 2)
    with serving(one_model) as running:
        first = running.workers.keys()
        config = running.api.request("v2/models/preprocess/config")
        config["instance_group"][0]["count"] = 1
        body = {"parameters": {"config": json.dumps(config)}}
        running.api.request("v2/repository/models/preprocess/load", body, timeout_s=WAIT_S)
        wait_for(lambda: len(running.workers) == 1, "the worker of the second instance did not end")
        assert len(first) == 2
        running.api.request("v2/repository/models/preprocess/unload", {})
        wait_for(lambda: not running.workers, "the worker did not end")
        (entry,) = running.api.request("v2/repository/index", {})
        assert entry["state"] in {"UNLOADING", "UNAVAILABLE"}
        running.api.request("v2/repository/models/preprocess/load", {}, timeout_s=WAIT_S)
        assert running.answers()
        assert "died" not in running.stderr.read_text()


def test_a_failed_load_is_reported_and_tried_again(serving: Callable, wait_for: Callable, one_model: Path) -> None:
    """With growing pauses, until the cause is fixed; the stop afterwards does not take long."""
    with serving(one_model) as running:
        code = (one_model / "preprocess/1/model.py").read_text()
        (one_model / "preprocess/1/model.py").write_text("raise RuntimeError('broken on purpose')\n")
        os.kill(running.worker, signal.SIGKILL)
        for pause_s in (1, 2):
            wait_for(lambda s=pause_s: f"next try in {s} s" in running.stderr.read_text(), "no failure was reported")
        assert "broken on purpose" in running.stderr.read_text()
        (one_model / "preprocess/1/model.py").write_text(code)
        wait_for(running.answers, "the worker was not replaced")
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(WAIT_S) == 0


def test_a_crashed_server_is_started_again(
    serving: Callable, wait_for: Callable, one_model: Path, alive: Callable
) -> None:
    """With ``--restart`` it comes back at the same addresses, and nothing of the dead one is left, no zombie either."""
    with serving(one_model, "--restart") as running:
        dead, regions = running.processes(), running.shared_memory()
        os.kill(running.server, signal.SIGKILL)
        wait_for(lambda: "starting it again in 1 s" in running.stderr.read_text(), "no restart was announced")
        assert not [pid for pid in dead if alive(pid)]
        assert not [region for region in regions if region.exists()]
        wait_for(running.answers, "the server did not come back")
        assert all(map(alive, running.processes()))
        assert "exit code 137" in running.stderr.read_text()
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(WAIT_S) == 0
        assert not running.shared_memory()


def test_a_server_comes_back_after_its_watchdog_was_killed(
    serving: Callable, wait_for: Callable, one_model: Path
) -> None:
    """The kernel ends the server with the watchdog; ``--restart`` starts both again."""
    with serving(one_model, "--restart") as running:
        dead = running.watchdog
        os.kill(dead, signal.SIGKILL)
        wait_for(lambda: "starting it again in 1 s" in running.stderr.read_text(), "no restart was announced")
        wait_for(running.answers, "the server did not come back")
        assert running.watchdog != dead
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(WAIT_S) == 0


def test_a_restart_that_cannot_succeed_ends_the_command(serving: Callable, one_model: Path) -> None:
    """Exit code 3 and the reason, when a person has to fix something first."""
    with serving(one_model, "--restart") as running:
        shutil.rmtree(one_model / "preprocess/1")
        os.kill(running.server, signal.SIGKILL)
        assert running.process.wait(WAIT_S) == 3
        assert "run resnet-build" in running.stderr.read_text()


def test_the_watchdog_alone_serves_a_container(
    one_model: Path, tmp_path: Path, wait_for: Callable, alive: Callable
) -> None:
    """As compose runs it: a token of its own, closed APIs, dead workers replaced, SIGTERM passed on, exit code 0."""
    installed, (http, grpc) = installation.find(), ports.free_ports("127.0.0.1", 2)
    installed.compose(tmp_path / "backends")
    url, script = f"http://127.0.0.1:{http}", shutil.copy(watchdog.__file__, tmp_path)
    environment = {key: value for key, value in installed.environment().items() if key != "RESNET_ADMIN_TOKEN"}
    command = [
        *(sys.executable, "-I", script, "--http", url, "--", str(installed.binary), "--allow-metrics=false"),
        *(f"--model-repository={one_model}", f"--backend-directory={tmp_path / 'backends'}"),
        *("--model-control-mode=explicit", "--load-model=*", f"--http-port={http}", f"--grpc-port={grpc}"),
        *("--http-address=127.0.0.1", "--grpc-address=127.0.0.1"),
    ]
    with (tmp_path / "printed").open("w") as printed:
        container = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=printed, stderr=printed)
    try:
        unauthenticated = Api(url, "a token of another server")
        wait_for(lambda: _is_ready(unauthenticated), "it did not start")
        with pytest.raises(OSError, match="403"):
            unauthenticated.request("v2/repository/index", {})
        (server,) = map(int, Path(f"/proc/{container.pid}/task/{container.pid}/children").read_text().split())
        (worker,) = watchdog.workers_of(server)
        os.kill(worker, signal.SIGKILL)
        wait_for(lambda: watchdog.workers_of(server).keys() - {worker}, "the worker was not replaced")
        wait_for(lambda: DIED in (tmp_path / "printed").read_text(), "nothing was printed")
        container.send_signal(signal.SIGTERM)
        assert container.wait(WAIT_S) == 0
        assert not alive(server)
    finally:
        container.kill()
        container.wait(WAIT_S)


def _is_ready(api: Api) -> bool:
    try:
        api.request("v2/health/ready")
    except OSError:
        return False
    return True
