"""``resnet-serve`` as a process: options, exit codes, messages, signals, and nothing left behind."""

from __future__ import annotations

import os
import re
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from processes import WAIT_S, is_alive, wait_for, wait_for_end
from resnet_client import Client, ModelNotFoundError
from resnet_client.cli import main as resnet_client
from resnet_serve import ports
from resnet_serve.cli import config_of, parser
from serving import Running, run, serve

from .conftest import add_network

THREADS = len(os.sched_getaffinity(0)) + 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--exit-after",), "--exit-after requires --run COMMAND"),
        (("--run", ""), "argument --run: expected a command"),
        (("--run", "sh -c 'true"), "argument --run: No closing quotation"),
        (("--run", "no-such-command --flag"), "--run: no-such-command was not found"),
        (("mine",), "unexpected argument 'mine': to serve a folder, use --repository mine"),
        *(
            (("--port", text), f"argument --port: invalid value {text!r}: expected an integer from 0 to 65533")
            for text in ("many", "65534")
        ),
        (("--ready-timeout-s", "nan"), "argument --ready-timeout-s: invalid value 'nan'"),
        (("--exit-timeout-s", "0.5"), "argument --exit-timeout-s: invalid value '0.5'"),
    ],
)
def test_parser_refuses_wrong_usage(
    arguments: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the option's name, and exit code 2."""
    with pytest.raises(SystemExit) as ended:
        parser().parse_args(arguments)
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


def test_config_of_reads_the_options(tmp_path: Path) -> None:
    """The command is split into words; what follows -- is Triton's; `none` names no model config."""
    options = ["--run", "sh -c 'exit 3'", "--exit-after", "--ready-timeout-s", "0.5", "--exit-timeout-s", "0"]
    options += ["--model-config-name", "none", "--open-apis", "none", "--admin-token-file", str(tmp_path / "token")]
    args = parser().parse_args([*options, "--", "--log-verbose=1"])
    assert (args.run, args.exit_after) == (["sh", "-c", "exit 3"], True)
    config = config_of(args, tmp_path / "log")
    assert (config.ready_timeout_s, config.exit_timeout_s, config.log) == (0.5, 0, tmp_path / "log")
    assert (config.model_config_name, config.open_apis, config.triton_args) == ("", (), ("--log-verbose=1",))
    assert config.admin_token == (tmp_path / "token").read_text().strip()
    assert config_of(parser().parse_args([]), tmp_path / "log").model_config_name is None


@pytest.fixture(scope="module")
def models(repository_copy: Any) -> Path:
    """The default model, and a network of too many threads, which it does not use."""
    for model in ("resnet50", "preprocess", "network_onnx"):
        repository_copy.add(model)
    add_network(repository_copy.folder, "network", intra_op_thread_count=str(THREADS))
    return repository_copy.folder


@pytest.fixture(scope="module")
def running(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server of two models, whose command of ``--run`` fails; tests leave it as it is."""
    arguments = ("--models", "preprocess,network", "--run", "false", "--", "--log-verbose=1")
    with serve(tmp_path_factory.mktemp("running"), models, *arguments) as found:
        yield found


def test_start_prints_a_line_per_model_and_the_urls(running: Running) -> None:
    """Name, version, backend, batch, device, addresses; what follows ``--`` has reached tritonserver."""
    assert any(
        re.fullmatch(r"  preprocess +version 1 +python +batch up to 32 +1 instance on CPU", line)
        for line in running.lines
    )
    for name in ("gRPC", "HTTP", "metrics"):
        assert running.listens(name)
    assert "HTTP request" in running.log.read_text()


def test_start_loads_the_default_model_and_lists_the_others(
    serving: Callable, models: Path, images: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """One of them is loaded later, as the message about it advises."""
    with serving(models) as running, Client(running.url("gRPC")) as client:
        assert client.classify(images["cat"]).model == "resnet50"
        assert "  not loaded: network" in running.lines
        with pytest.raises(ModelNotFoundError, match="`resnet-client load MODEL` loads another one"):
            client.metadata(model="network")
        assert resnet_client(["load", "network", "--url", running.url("gRPC")]) == 0
        assert capsys.readouterr().out == "network\tloaded\n"
        assert client.metadata(model="network")["model"]["name"] == "network"


def test_start_warns_of_limits_of_the_host(running: Running) -> None:
    """More threads than cores; serving goes on."""
    assert f"resnet-serve: warning: network uses {THREADS} threads" in running.errors.read_text()
    wait_for(running.answers, "there is no answer")


def test_run_command_that_fails_is_reported_and_serving_goes_on(running: Running) -> None:
    """A bad exit code does not end the server."""
    wait_for(lambda: "ended with exit code 1" in running.errors.read_text(), "nothing was printed")
    assert running.process.poll() is None
    assert running.listens("HTTP")


def test_start_prints_why_models_failed_and_serves_the_others(
    serving: Callable, models: Path, images: dict[str, Path], tmp_path: Path
) -> None:
    """An artifact is missing, a step failed, a config is invalid: one line each after the list of models."""
    broken = shutil.copytree(models, tmp_path / "broken")
    for name in ("network_onnx", "resnet50"):
        shutil.copytree(broken / name, broken / f"{name}_2")
        config = broken / f"{name}_2/config.pbtxt"
        config.write_text(re.sub(r'"(network_onnx|resnet50)"', r'"\1_2"', config.read_text()))
    (broken / "network_onnx_2/1/model.onnx").unlink()
    shutil.copytree(broken / "network_onnx", broken / "network_3")
    (broken / "network_3/config.pbtxt").write_text("nonsense")
    with serving(broken, "--models", "all") as running, Client(running.url("gRPC")) as client:
        client.classify(images["cat"])
        printed = "\n".join(running.lines)
        listed = [line.split()[0] for line in running.lines if re.search(" version | failed: ", line)]
    assert listed[-3:] == ["network_3", "network_onnx_2", "resnet50_2"]
    for pattern in (
        rf"network_3 +failed: Poll failed .* failed to read text proto from {broken}/network_3/config.pbtxt",
        rf"network_onnx_2 +failed: .*the artifact {broken}/network_onnx_2/1/model.onnx is missing: run resnet-build",
        "resnet50_2 +failed: .*ensemble 'resnet50_2' depends on 'network_onnx_2' .* is missing: run resnet-build",
    ):
        assert re.search(f"^  {pattern}$", printed, re.MULTILINE), printed


def test_sigint_ends_everything(serving: Callable, one_model: Path) -> None:
    """Exit code 0; no process, no shared memory, no folder is left, and the ports are free."""
    with serving(one_model) as running:
        below, folder = running.processes(), running.folder
        assert len(below) >= 3  # watchdog, tritonserver, worker
        assert running.shared_memory()
        running.process.send_signal(signal.SIGINT)
        assert running.process.wait(WAIT_S) == 0
        assert not any(map(is_alive, below))
        assert not running.shared_memory()
        assert not folder.exists()
        for name in ("gRPC", "HTTP", "metrics"):
            ports.refuse_taken("127.0.0.1", running.port(name))


def test_sigterm_lets_running_requests_finish(serving: Callable, models: Path, images: dict[str, Path]) -> None:
    """Images that the server has accepted are answered while it stops; the exit code is 0."""
    with (
        serving(models) as running,
        Client(running.url("gRPC"), max_attempts=1) as client,
    ):
        outcomes = client.classify_many([images["cat"]] * 8, max_in_flight=8)
        first = next(outcomes)
        # All are inside once the first step has seen them; the network still has most of them to do.
        wait_for(lambda: client.statistics(model="preprocess")[0].inference_count == 8, "not all images arrived")
        running.process.send_signal(signal.SIGTERM)
        rest = list(outcomes)
        assert running.process.wait(WAIT_S) == 0
    assert all(outcome.ok for outcome in (first, *rest)), [str(outcome.error) for outcome in rest]


def test_killed_command_leaves_nothing(serving: Callable, one_model: Path) -> None:
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


def test_killed_watchdog_ends_server_and_command(serving: Callable, one_model: Path) -> None:
    """Exit code 1 and a message; the kernel ends the server with its watchdog, and what is left is removed."""
    with serving(one_model) as running:
        below, folder = running.processes(), running.folder
        os.kill(running.watchdog, signal.SIGKILL)
        assert running.process.wait(WAIT_S) == 1
        assert "tritonserver exited unexpectedly with exit code" in running.errors.read_text()
        wait_for_end(below)
        assert not running.shared_memory()
        assert not folder.exists()


def test_next_start_removes_what_killed_processes_left(serving: Callable, one_model: Path, temporary: Path) -> None:
    """If command and watchdog are killed together; the next start leaves nothing itself, as all went well."""
    with serving(one_model) as running:
        below, folder = running.processes(), running.folder
        os.kill(running.process.pid, signal.SIGSTOP)  # so that it does not see the watchdog's end
        os.kill(running.watchdog, signal.SIGKILL)
        running.process.kill()
        running.process.wait(WAIT_S)
        wait_for_end(below)
        assert folder.exists()
        assert running.shared_memory()
        assert run(one_model, "--run", "true", "--exit-after").returncode == 0
        assert not running.shared_memory()
        assert not list(temporary.iterdir())


def test_exit_after_returns_the_exit_code_of_the_run_command(one_model: Path, temporary: Path) -> None:
    """A temporary log is kept if the command failed."""
    assert run(one_model, "--run", "sh -c 'exit 42'", "--exit-after").returncode == 42
    assert [path.suffix for path in temporary.iterdir()] == [".log"]


# Writes what it knows when it is stopped.
COMMAND = """
import os, pathlib, signal, sys
written = pathlib.Path(sys.argv[1])
about = os.environ["RESNET_URL"] + " " + os.environ["RESNET_ADMIN_TOKEN"]
signal.signal(signal.SIGTERM, lambda *_: (written.write_text(about + " a report"), sys.exit()))
written.touch()
signal.pause()
"""


def test_run_command_has_address_and_token_and_time_to_end(serving: Callable, one_model: Path, tmp_path: Path) -> None:
    """With ``--exit-after``, the exit code is that of the signal: a script must not take the command for finished."""
    script, written = tmp_path / "command.py", tmp_path / "written"
    script.write_text(COMMAND)
    with serving(one_model, "--run", f"{sys.executable} {script} {written}", "--exit-after") as running:
        wait_for(written.exists, "the command did not run")
        assert running.stop() == 128 + signal.SIGTERM
    assert written.read_text() == f"{running.url('gRPC')} {os.environ['RESNET_ADMIN_TOKEN']} a report"


def test_restricted_apis_of_the_caller_do_not_end_the_server(serving: Callable, one_model: Path) -> None:
    """With Triton's own flag and ``--open-apis all`` the addresses are shown; without, exit code 3 and a message."""
    flag = "--http-restricted-api=model-repository:admin-key=one-of-my-own"
    with serving(one_model, "--open-apis", "all", "--", flag) as running:
        assert any("models cannot be listed" in line for line in running.lines)
        assert running.listens("gRPC")
    result = run(one_model, "--", flag)
    assert result.returncode == 3
    assert "add --open-apis all" in result.stderr.splitlines()[0]
