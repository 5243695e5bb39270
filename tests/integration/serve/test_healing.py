"""Workers and servers that die: who notices, and what happens then."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from resnet_serve import installation, ports, supervisor
from resnet_serve.supervisor import Api

WAIT_S = 120


@pytest.fixture
def api() -> Callable[[str], Api]:
    """A server's HTTP API with the token of the test run."""
    return lambda url: Api(url, os.environ["RESNET_ADMIN_TOKEN"])


def test_a_dead_worker_is_replaced(serving: Callable, wait_for: Callable, one_model: Path) -> None:
    """The model answers nothing until the supervisor acts, and again within 10 s then; one line says so."""
    with serving(one_model) as running:
        assert running.answers()
        dead = running.worker
        os.kill(running.supervisor, signal.SIGSTOP)
        os.kill(dead, signal.SIGKILL)
        assert not running.answers()
        os.kill(running.supervisor, signal.SIGCONT)
        begin_s = time.monotonic()
        wait_for(running.answers, "the worker was not replaced")
        assert time.monotonic() - begin_s < 10
        assert running.worker != dead
        wait_for(lambda: "worker of preprocess died" in running.log.read_text(), "nothing was said")
        said = [line for line in running.stderr.read_text().splitlines() if "worker of preprocess died" in line]
        assert len(said) == 1
        assert said[0] in running.log.read_text()
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(WAIT_S) == 0


def test_a_model_that_somebody_unloads_stays_unloaded(
    serving: Callable, api: Callable[[str], Api], wait_for: Callable, one_model: Path
) -> None:
    """Its worker ends, too, but in order; loading it with the same API brings it back."""
    with serving(one_model) as running:
        control, worker = api(running.url("HTTP")), running.worker
        control.ask("v2/repository/models/preprocess/unload", {})
        wait_for(lambda: worker not in supervisor.workers_of(running.server), "the worker did not end")
        (entry,) = control.ask("v2/repository/index", {})
        assert entry["state"] in {"UNLOADING", "UNAVAILABLE"}
        control.ask("v2/repository/models/preprocess/load", {}, timeout_s=WAIT_S)
        assert running.answers()
        assert "died" not in running.stderr.read_text()


def test_a_crashed_server_is_started_again(
    serving: Callable, wait_for: Callable, one_model: Path, alive: Callable
) -> None:
    """With ``--restart`` it comes back at the same addresses, says so, and leaves nothing of the dead one."""
    with serving(one_model, "--restart") as running:
        dead, regions = running.processes(), running.shared_memory()
        os.kill(running.server, signal.SIGKILL)
        wait_for(lambda: "starting it again in 1 s" in running.stderr.read_text(), "no restart was announced")
        assert not [pid for pid in dead if alive(pid)]
        assert not [region for region in regions if region.exists()]
        wait_for(running.answers, "the server did not come back")
        assert "exit code 137" in running.stderr.read_text()
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(WAIT_S) == 0
        assert not running.shared_memory()


def test_a_restart_that_cannot_succeed_ends_the_command(serving: Callable, one_model: Path) -> None:
    """Exit code 3 and the reason, when a person has to mend something first."""
    with serving(one_model, "--restart") as running:
        shutil.rmtree(one_model / "preprocess/1")
        os.kill(running.server, signal.SIGKILL)
        assert running.process.wait(WAIT_S) == 3
        assert "run resnet-build" in running.stderr.read_text()


def test_the_supervisor_alone_serves_a_container(
    one_model: Path, tmp_path: Path, wait_for: Callable, alive: Callable
) -> None:
    """As compose runs it: own token, strangers kept out, dead workers replaced, SIGTERM passed on, exit code 0."""
    installed, (http, grpc) = installation.find(), ports.free_ports("127.0.0.1", 2)
    installed.compose(tmp_path / "backends")
    url, script = f"http://127.0.0.1:{http}", shutil.copy(supervisor.__file__, tmp_path)
    environment = {key: value for key, value in installed.environment().items() if key != "RESNET_ADMIN_TOKEN"}
    command = [
        *(sys.executable, "-I", script, "--http", url, "--", str(installed.binary), "--allow-metrics=false"),
        *(f"--model-repository={one_model}", f"--backend-directory={tmp_path / 'backends'}"),
        *("--model-control-mode=explicit", "--load-model=*", f"--http-port={http}", f"--grpc-port={grpc}"),
        *("--http-address=127.0.0.1", "--grpc-address=127.0.0.1"),
    ]
    with (tmp_path / "said").open("w") as said:
        container = subprocess.Popen(command, env=environment, stdout=said, stderr=said)
    try:
        stranger = Api(url, "no token at all")
        wait_for(lambda: _is_ready(stranger), "it did not start")
        with pytest.raises(OSError, match="403"):
            stranger.ask("v2/repository/index", {})
        (server,) = map(int, Path(f"/proc/{container.pid}/task/{container.pid}/children").read_text().split())
        (worker,) = supervisor.workers_of(server)
        os.kill(worker, signal.SIGKILL)
        wait_for(lambda: set(supervisor.workers_of(server)) - {worker}, "the worker was not replaced")
        wait_for(lambda: "died; preprocess is loaded again" in (tmp_path / "said").read_text(), "nothing was said")
        container.send_signal(signal.SIGTERM)
        assert container.wait(WAIT_S) == 0
        assert not alive(server)
    finally:
        container.kill()
        container.wait(WAIT_S)


def _is_ready(api: Api) -> bool:
    try:
        api.ask("v2/health/ready")
    except OSError:
        return False
    return True
