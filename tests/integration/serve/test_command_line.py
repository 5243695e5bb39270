"""``resnet-serve`` as a process: exit codes, sentences, signals, and nothing left behind."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from resnet_client import Client
from resnet_serve import ports

WAIT_S = 120


def test_one_clean_line_per_model_and_the_urls(serving: Callable, one_model: Path) -> None:
    """What a person reads when it is ready: name, version, backend, batch, device, addresses."""
    with serving(one_model) as running:
        pattern = r"  preprocess +version 1 +python +batch up to 32 +CPU"
        assert any(re.fullmatch(pattern, line) for line in running.lines)
        for name in ("gRPC", "HTTP", "metrics"):
            assert running.listens(name)


def test_limits_of_the_host_are_warned_of(serving: Callable, plain_repository: Path, tmp_path: Path) -> None:
    """More threads than cores; serving goes on."""
    shutil.copytree(plain_repository / "network_onnx", tmp_path / "models/network_onnx")
    threads = len(os.sched_getaffinity(0)) + 1
    with (tmp_path / "models/network_onnx/config.pbtxt").open("a") as config:
        config.write(f'parameters {{ key: "intra_op_thread_count" value {{ string_value: "{threads}" }} }}')
    with serving(tmp_path / "models") as running:
        warned = running.stderr.read_text()
        assert f"resnet-serve: warning: network_onnx computes with {threads} threads" in warned
        assert running.listens("gRPC")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_a_request_to_stop_ends_everything(
    serving: Callable, alive: Callable, one_model: Path, number: signal.Signals
) -> None:
    """Exit code 0; no process, no shared memory, no folder is left, and the ports are free."""
    with serving(one_model) as running:
        below, folder = running.processes(), running.folder
        assert len(below) >= 3  # watchdog, tritonserver, worker
        assert running.shared_memory()
        running.process.send_signal(number)
        assert running.process.wait(WAIT_S) == 0
        assert not [pid for pid in below if alive(pid)]
        assert not running.shared_memory()
        assert not folder.exists()
        for name in ("gRPC", "HTTP", "metrics"):
            ports.refuse_taken("127.0.0.1", [running.port(name)])


def test_a_killed_command_leaves_nothing(serving: Callable, wait_for_end: Callable, one_model: Path) -> None:
    """``kill -9`` of resnet-serve: the watchdog ends tritonserver, and removes shared memory and folder."""
    with serving(one_model) as running:
        below, folder = running.processes(), running.folder
        assert folder.exists()
        running.process.kill()
        running.process.wait(WAIT_S)
        wait_for_end(below)
        assert not running.shared_memory()
        assert not running.listens("gRPC")
        assert not folder.exists()


def test_a_killed_watchdog_ends_the_command(serving: Callable, wait_for_end: Callable, one_model: Path) -> None:
    """The kernel ends the server with it; resnet-serve reports that, removes what is left, and exits with 1."""
    with serving(one_model) as running:
        below, folder = running.processes(), running.folder
        os.kill(running.watchdog, signal.SIGKILL)
        assert running.process.wait(WAIT_S) == 1
        wait_for_end(below)
        assert not running.shared_memory()
        assert not folder.exists()


def test_the_next_start_removes_what_killed_processes_left(
    serving: Callable, run: Callable, wait_for_end: Callable, one_model: Path, temporary: Path
) -> None:
    """With command and watchdog killed together nothing is removed at first; a server that lives keeps its folder."""
    with serving(one_model) as running:
        below, folder = running.processes(), running.folder
        assert run(one_model, "--port", "0", "--then", "true", "--exit-after").returncode == 0
        assert folder.exists()
        assert running.shared_memory()
        os.kill(running.process.pid, signal.SIGSTOP)  # so that it does not see the watchdog's end
        os.kill(running.watchdog, signal.SIGKILL)
        running.process.kill()
        running.process.wait(WAIT_S)
        wait_for_end(below)
        assert folder.exists()
        assert running.shared_memory()
        assert run(one_model, "--port", "0", "--then", "true", "--exit-after").returncode == 0
        assert not running.shared_memory()
        assert not list(temporary.iterdir())


def test_a_server_that_ends_by_itself_is_told(serving: Callable, alive: Callable, one_model: Path) -> None:
    """Exit code 1 when tritonserver is gone without having been asked; its workers and shared memory are, too."""
    with serving(one_model) as running:
        below = running.processes()
        os.kill(running.server, signal.SIGKILL)
        assert running.process.wait(WAIT_S) == 1
        assert "tritonserver ended by itself with exit code 137" in running.stderr.read_text()
        assert not [pid for pid in below if alive(pid)]
        assert not running.shared_memory()


def test_sigterm_lets_running_requests_finish(
    serving: Callable, wait_for: Callable, plain_repository: Path, photos: dict[str, Path], tmp_path: Path
) -> None:
    """Photos that the server has accepted are answered while it stops."""
    for model in ("resnet50", "preprocess", "network_onnx"):
        shutil.copytree(plain_repository / model, tmp_path / "onnx" / model)
    with serving(tmp_path / "onnx") as running, Client(running.url("gRPC"), max_attempts=1) as client:
        outcomes = client.classify_many([photos["cat"]] * 32, max_in_flight=32)
        first = next(outcomes)
        # All are inside once the first step has seen them; the network still has most of them to do.
        wait_for(lambda: client.statistics(model="preprocess")[0].inference_count == 32, "not all photos arrived")
        running.process.send_signal(signal.SIGTERM)
        rest = list(outcomes)
        assert running.process.wait(WAIT_S) == 0
    assert all(outcome.ok for outcome in (first, *rest)), [str(outcome.error) for outcome in rest]


def test_a_taken_port_is_one_sentence(run: Callable, one_model: Path) -> None:
    """Exit code 3, and the message names the port and the remedy."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        result = run(one_model, "--port", str(port))
    assert result.returncode == 3
    assert f"cannot listen on 127.0.0.1:{port}" in result.stderr
    assert "--port 0" in result.stderr


def test_a_missing_repository_is_one_sentence(run: Callable, tmp_path: Path) -> None:
    """Exit code 3 and what to run."""
    result = run(tmp_path / "nowhere", "--port", "0")
    assert result.returncode == 3
    assert "run resnet-build" in result.stderr


@pytest.mark.parametrize("what", ["version", "artifact"])
def test_a_missing_artifact_is_one_sentence(run: Callable, plain_repository: Path, tmp_path: Path, what: str) -> None:
    """Exit code 3 and «run resnet-build», for a missing version folder as for a missing file in it."""
    shutil.copytree(plain_repository / "network_onnx", tmp_path / "network_onnx")
    if what == "version":
        shutil.rmtree(tmp_path / "network_onnx/1")
    else:
        (tmp_path / "network_onnx/1/model.onnx").unlink()
    result = run(tmp_path, "--port", "0")
    assert result.returncode == 3
    assert "missing: run resnet-build" in result.stderr.splitlines()[0]


def test_a_damaged_artifact_shows_the_logs_errors(run: Callable, plain_repository: Path, tmp_path: Path) -> None:
    """Exit code 3, and the message holds Triton's own error."""
    shutil.copytree(plain_repository / "network_onnx", tmp_path / "network_onnx")
    (tmp_path / "network_onnx/1/model.onnx").write_bytes(b"no protobuf")
    result = run(tmp_path, "--port", "0")
    assert result.returncode == 3
    assert "failed to load 'network_onnx'" in result.stderr
    assert "Protobuf parsing failed" in result.stderr


def test_an_unknown_flag_of_triton_is_one_sentence(run: Callable, one_model: Path) -> None:
    """What is passed through and not known is told."""
    result = run(one_model, "--port", "0", "--", "--no-such-flag")
    assert result.returncode == 3
    assert "does not know one of the flags" in result.stderr.splitlines()[0]


def test_a_log_that_cannot_be_written_is_one_sentence(run: Callable, one_model: Path, tmp_path: Path) -> None:
    """Exit code 3 and the path."""
    result = run(one_model, "--port", "0", "--log", str(tmp_path / "missing/triton.log"))
    assert result.returncode == 3
    assert "missing/triton.log cannot be written: No such file" in result.stderr


def test_wrong_usage_has_its_own_exit_code(run: Callable, one_model: Path) -> None:
    """Argparse's 2."""
    assert run(one_model, "--port", "many").returncode == 2
    assert run(one_model, "--open-apis", "metadata,doors").returncode == 2


def test_tritons_flags_are_passed_through(serving: Callable, one_model: Path) -> None:
    """What follows ``--`` reaches tritonserver."""
    with serving(one_model, "--", "--log-verbose=1") as running:
        assert "HTTP request" in running.log.read_text()


def _writing(folder: Path, code: str) -> tuple[str, Path]:
    """Return a command of ``--then`` that runs this code, and the file that the code knows as ``written``."""
    script, written = folder / "then.py", folder / "then.txt"
    script.write_text(f"import os, pathlib, signal, sys\nwritten = pathlib.Path({str(written)!r})\n{code}")
    return f"{sys.executable} {script}", written


def test_then_runs_a_command_with_address_and_token(
    serving: Callable, wait_for: Callable, one_model: Path, tmp_path: Path
) -> None:
    """``--then`` sees the server's address in RESNET_URL, and the token in RESNET_ADMIN_TOKEN."""
    command, written = _writing(
        tmp_path, "written.write_text(os.environ['RESNET_URL'] + ' ' + os.environ['RESNET_ADMIN_TOKEN'] + '.')"
    )
    with serving(one_model, "--then", command) as running:
        wait_for(lambda: written.exists() and written.read_text().endswith("."), "the command did not run")
        assert written.read_text() == f"{running.url('gRPC')} {os.environ['RESNET_ADMIN_TOKEN']}."


def test_a_stop_lets_the_command_of_then_end_by_itself(
    serving: Callable, wait_for: Callable, one_model: Path, tmp_path: Path
) -> None:
    """It hears SIGTERM, and has time to write what it knows."""
    command, written = _writing(
        tmp_path,
        "signal.signal(signal.SIGTERM, lambda *_: (written.write_text('a report'), sys.exit()))\n"
        "written.touch()\n"
        "signal.pause()",
    )
    with serving(one_model, "--then", command) as running:
        wait_for(written.exists, "the command did not run")
        running.process.terminate()
        assert running.process.wait(60) == 0
    assert written.read_text() == "a report"


def test_exit_after_tells_that_a_signal_stopped_the_command(
    serving: Callable, wait_for: Callable, one_model: Path, tmp_path: Path
) -> None:
    """A script that goes on after success must not take an interrupted command for one."""
    command, written = _writing(tmp_path, "written.touch()\nsignal.pause()")
    with serving(one_model, "--then", command, "--exit-after") as running:
        wait_for(written.exists, "the command did not run")
        running.process.terminate()
        assert running.process.wait(60) == 128 + signal.SIGTERM


def test_a_then_that_fails_is_told_and_serving_goes_on(
    serving: Callable, wait_for: Callable, run: Callable, one_model: Path, tmp_path: Path
) -> None:
    """Neither a missing program nor a bad exit code ends the server; both are said."""
    for then, sentence in ((str(tmp_path / "missing"), "could not be run"), ("false", "exit code 1")):
        with serving(one_model, "--then", then) as running:
            wait_for(lambda running=running, said=sentence: said in running.stderr.read_text(), "nothing was said")
            assert running.process.poll() is None
            assert running.listens("HTTP")
    assert run(one_model, "--port", "0", "--then", "echo 'x").returncode == 2


def test_exit_after_takes_over_the_exit_code(
    run: Callable, one_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With ``--exit-after`` a command is wrapped in a server; a log of ours is kept only if it failed."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    assert run(one_model, "--port", "0", "--then", "true", "--exit-after").returncode == 0
    assert not list(tmp_path.glob("*resnet?serve*"))
    assert run(one_model, "--port", "0", "--then", "sh -c 'exit 42'", "--exit-after").returncode == 42
    assert [path.suffix for path in tmp_path.glob("*resnet?serve*")] == [".log"]


@pytest.mark.parametrize("host", ["nonsense.invalid", "203.0.113.7"])
def test_a_foreign_host_is_one_sentence(run: Callable, one_model: Path, host: str) -> None:
    """Exit code 3 for an address that is not this machine's."""
    result = run(one_model, "--port", "0", "--host", host)
    assert result.returncode == 3
    assert result.stderr.startswith(f"resnet-serve: cannot listen on {host}")


def test_restrictions_of_ones_own_do_not_end_the_server(serving: Callable, run: Callable, one_model: Path) -> None:
    """With Triton's own flag beside ``--open-apis all`` the addresses are shown all the same; without, one is told."""
    flag = "--http-restricted-api=model-repository:admin-key=one-of-my-own"
    with serving(one_model, "--open-apis", "all", "--", flag) as running:
        assert any("does not list its models" in line for line in running.lines)
        assert running.listens("gRPC")
    result = run(one_model, "--port", "0", "--", flag)
    assert result.returncode == 3
    assert "give --open-apis all" in result.stderr.splitlines()[0]
