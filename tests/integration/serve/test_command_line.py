"""``resnet-serve`` as a process: exit codes, sentences, signals, and nothing left behind."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest
from resnet_client import Client

WAIT_S = 120


@pytest.fixture
def one_model(repository: Path, tmp_path: Path) -> Path:
    """A repository that starts quickly: the preprocessing model alone."""
    folder = tmp_path / "one_model"
    shutil.copytree(repository / "preprocess", folder / "preprocess")
    return folder


def command(repository: Path, *arguments: str) -> list[str]:
    """``resnet-serve`` on a repository."""
    return [sys.executable, "-m", "resnet_serve", "--repository", str(repository), *arguments]


def run(repository: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run to the end."""
    return subprocess.run(command(repository, *arguments), capture_output=True, text=True, timeout=WAIT_S, check=False)


@contextmanager
def serving(
    repository: Path, tmp_path: Path, *arguments: str, stderr: IO[str] | None = None
) -> Iterator[tuple[subprocess.Popen[str], list[str]]]:
    """Start, wait until the URLs are printed, and give process and output; end it whatever happens."""
    log = tmp_path / "triton.log"
    process = subprocess.Popen(
        command(repository, "--port", "0", "--log", str(log), *arguments),
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
    )
    assert process.stdout is not None
    lines: list[str] = []
    try:
        for line in process.stdout:
            lines.append(line.rstrip())
            if line.startswith("  log"):
                break
        yield process, lines
    finally:
        process.kill()
        process.wait(WAIT_S)
        process.stdout.close()


def url(lines: list[str], name: str) -> str:
    """Read an address from what was printed."""
    return next(line.split()[-1] for line in lines if line.strip().startswith(name))


def descendants(pid: int) -> list[int]:
    """All processes below one."""
    found = []
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, children.read_text().split()):
            found += [child, *descendants(child)]
    return found


def wait_for(condition: Callable[[], bool], what: str) -> None:
    """Wait, boundedly, for something that the kernel or another process does."""
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def listens(address: str) -> bool:
    """Whether anything accepts connections at a URL."""
    host, port = address.split("//")[1].split("/", maxsplit=1)[0].split(":")
    with socket.socket() as probe:
        return probe.connect_ex((host, int(port))) == 0


def shared_memory(pid: int) -> list[Path]:
    """Regions of the server that a process started."""
    return list(Path("/dev/shm").glob(f"resnet_serve_{pid}_*"))


def test_one_clean_line_per_model_and_the_urls(one_model: Path, tmp_path: Path) -> None:
    """What a person reads when it is ready: name, version, backend, batch, device, addresses."""
    with serving(one_model, tmp_path) as (_, lines):
        assert any(re.fullmatch(r"  preprocess +version 1 +python +batch up to 32 +CPU", line) for line in lines)
        for name in ("gRPC", "HTTP", "metrics"):
            assert listens(url(lines, name))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_a_request_to_stop_ends_everything(one_model: Path, tmp_path: Path, number: signal.Signals) -> None:
    """Exit code 0, no process, no shared memory, no port is left."""
    with serving(one_model, tmp_path) as (process, lines):
        below = descendants(process.pid)
        assert len(below) >= 3  # guard, tritonserver, worker
        assert shared_memory(process.pid)
        process.send_signal(number)
        assert process.wait(WAIT_S) == 0
        assert not [pid for pid in below if alive(pid)]
        assert not shared_memory(process.pid)
        assert not listens(url(lines, "HTTP"))


def test_sigkill_leaves_no_process(one_model: Path, tmp_path: Path) -> None:
    """Even ``kill -9`` of resnet-serve takes tritonserver, its workers and its shared memory along."""
    with serving(one_model, tmp_path) as (process, lines):
        below = descendants(process.pid)
        arguments = Path(f"/proc/{below[0]}/cmdline").read_text().split("\0")
        folder = Path(arguments[arguments.index("--folder") + 1])
        assert folder.exists()
        process.kill()
        process.wait(WAIT_S)
        wait_for(lambda: not [pid for pid in below if alive(pid)], "a process is left")
        assert not shared_memory(process.pid)
        assert not listens(url(lines, "gRPC"))
        assert not folder.exists()


def test_sigkill_of_the_guard_leaves_no_process(one_model: Path, tmp_path: Path) -> None:
    """If the guard itself is killed, the kernel ends the server, and resnet-serve says that it ended."""
    with serving(one_model, tmp_path) as (process, _):
        below = descendants(process.pid)
        os.kill(below[0], signal.SIGKILL)
        assert process.wait(WAIT_S) == 1
        wait_for(lambda: not [pid for pid in below if alive(pid)], "a process is left")


def test_a_server_that_ends_by_itself_is_told(one_model: Path, tmp_path: Path) -> None:
    """Exit code 1 when tritonserver is gone without having been asked."""
    with serving(one_model, tmp_path) as (process, _):
        guard = descendants(process.pid)[0]
        os.kill(descendants(guard)[0], signal.SIGKILL)
        assert process.wait(WAIT_S) == 1


def test_sigterm_lets_running_requests_finish(repository: Path, photos: dict[str, Path], tmp_path: Path) -> None:
    """Photos that the server has accepted are answered while it stops."""
    for model in ("resnet50", "preprocess", "network_onnx"):
        shutil.copytree(repository / model, tmp_path / "onnx" / model)
    with serving(tmp_path / "onnx", tmp_path) as (process, lines), Client(url(lines, "gRPC"), max_attempts=1) as client:
        outcomes = client.classify_many([photos["cat"]] * 32, max_in_flight=32)
        first = next(outcomes)
        # All are inside once the first step has seen them; the network still has most of them to do.
        wait_for(lambda: client.statistics(model="preprocess")[0].inference_count == 32, "not all photos arrived")
        process.send_signal(signal.SIGTERM)
        rest = list(outcomes)
        assert process.wait(WAIT_S) == 0
    assert all(outcome.ok for outcome in (first, *rest)), [str(outcome.error) for outcome in rest]


def test_a_taken_port_is_one_sentence(one_model: Path) -> None:
    """Exit code 3, and the message names the port and the remedy."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        result = run(one_model, "--port", str(port))
    assert result.returncode == 3
    assert f"cannot listen on 127.0.0.1:{port}" in result.stderr
    assert "--port 0" in result.stderr


def test_a_missing_repository_is_one_sentence(tmp_path: Path) -> None:
    """Exit code 3 and what to run."""
    result = run(tmp_path / "nowhere", "--port", "0")
    assert result.returncode == 3
    assert "run resnet-build" in result.stderr


@pytest.mark.parametrize("what", ["version", "artifact"])
def test_a_missing_artifact_is_one_sentence(repository: Path, tmp_path: Path, what: str) -> None:
    """Exit code 3 and «run resnet-build», for a missing version folder as for a missing file in it."""
    shutil.copytree(repository / "network_onnx", tmp_path / "network_onnx")
    if what == "version":
        shutil.rmtree(tmp_path / "network_onnx/1")
    else:
        (tmp_path / "network_onnx/1/model.onnx").unlink()
    result = run(tmp_path, "--port", "0")
    assert result.returncode == 3
    assert "missing: run resnet-build" in result.stderr.splitlines()[0]


def test_a_damaged_artifact_shows_the_logs_errors(repository: Path, tmp_path: Path) -> None:
    """Exit code 3, and the message holds Triton's own error."""
    shutil.copytree(repository / "network_onnx", tmp_path / "network_onnx")
    (tmp_path / "network_onnx/1/model.onnx").write_bytes(b"no protobuf")
    result = run(tmp_path, "--port", "0")
    assert result.returncode == 3
    assert "failed to load 'network_onnx'" in result.stderr
    assert "Protobuf parsing failed" in result.stderr


def test_an_unknown_flag_of_triton_is_one_sentence(one_model: Path) -> None:
    """What is passed through and not known is told."""
    result = run(one_model, "--port", "0", "--", "--no-such-flag")
    assert result.returncode == 3
    assert "does not know one of the flags" in result.stderr.splitlines()[0]


def test_wrong_usage_has_its_own_exit_code(one_model: Path) -> None:
    """Argparse's 2."""
    assert run(one_model, "--port", "many").returncode == 2


def test_tritons_flags_are_passed_through(one_model: Path, tmp_path: Path) -> None:
    """What follows ``--`` reaches tritonserver."""
    with serving(one_model, tmp_path, "--", "--log-verbose=1"):
        assert "HTTP request" in (tmp_path / "triton.log").read_text()


def test_then_runs_a_command_with_the_address(one_model: Path, tmp_path: Path) -> None:
    """``--then`` sees the server's address in RESNET_URL."""
    script = tmp_path / "then.py"
    script.write_text(
        "import os, pathlib; pathlib.Path(__file__).with_suffix('.txt').write_text(os.environ['RESNET_URL'])"
    )
    with serving(one_model, tmp_path, "--then", f"{sys.executable} {script}") as (_, lines):
        written = script.with_suffix(".txt")
        wait_for(lambda: written.exists() and bool(written.read_text()), "the command did not run")
        assert written.read_text() == url(lines, "gRPC")


def test_a_then_that_fails_is_told_and_serving_goes_on(one_model: Path, tmp_path: Path) -> None:
    """Neither a missing program nor a bad exit code ends the server; both are said."""
    for then, sentence in ((str(tmp_path / "missing"), "could not be run"), ("false", "exit code 1")):
        with (
            (tmp_path / "stderr").open("w+") as stderr,
            serving(one_model, tmp_path, "--then", then, stderr=stderr) as (
                process,
                lines,
            ),
        ):
            wait_for(lambda sentence=sentence: sentence in (tmp_path / "stderr").read_text(), "nothing was said")
            assert process.poll() is None
            assert listens(url(lines, "HTTP"))
    assert run(one_model, "--port", "0", "--then", "echo 'x").returncode == 2


def test_exit_after_takes_over_the_exit_code(one_model: Path) -> None:
    """With ``--exit-after`` a command is wrapped in a server."""
    assert run(one_model, "--port", "0", "--then", "sh -c 'exit 42'", "--exit-after").returncode == 42


@pytest.mark.parametrize("host", ["nonsense.invalid", "203.0.113.7"])
def test_a_foreign_host_is_one_sentence(one_model: Path, host: str) -> None:
    """Exit code 3 for an address that is not this machine's."""
    result = run(one_model, "--port", "0", "--host", host)
    assert result.returncode == 3
    assert result.stderr.startswith(f"resnet-serve: cannot listen on {host}")


def test_a_restricted_model_list_does_not_end_the_server(one_model: Path, tmp_path: Path) -> None:
    """With Triton's model-repository protocol closed, the addresses are shown all the same."""
    flag = "--http-restricted-api=model-repository:admin-key=secret"
    with serving(one_model, tmp_path, "--", flag) as (_, lines):
        assert any("does not list its models" in line for line in lines)
        assert listens(url(lines, "gRPC"))
