"""What all commands have in common: Ctrl-C ends them."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

BIN = Path(sys.executable).parent
WAIT_S = 60
# CPU time in which Python has started, and a command has not.
PYTHON_S = 0.1


@pytest.fixture(scope="module")
def silent() -> Iterator[str]:
    """Address of a server that accepts connections and does not answer."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"grpc://127.0.0.1:{listener.getsockname()[1]}"


COMMANDS = [
    ["resnet-build", "--weights", "random:0"],
    ["resnet-serve", "--port", "0", "--repository", "slow"],
    ["resnet-client", "health", "--wait-s", "60"],
    ["resnet-loadtest", "run", "--rate", "20/s", "--wait-s", "60"],
]


@pytest.mark.parametrize("delay_s", [0, 1.5])
def test_command_ends_on_ctrl_c_with_one_line(delay_s: float, silent: str, tmp_path: Path) -> None:
    """At any moment: while it imports, and while it works; all commands run at once."""
    model = tmp_path / "slow/slow"
    (model / "1").mkdir(parents=True)
    (model / "config.pbtxt").write_text('backend: "python"\ninput { name: "x" data_type: TYPE_FP32 dims: 1 }\n')
    (model / "1/model.py").write_text("import time\ntime.sleep(60)\n")
    processes = [
        subprocess.Popen(
            [BIN / command[0], *command[1:]],
            cwd=tmp_path,
            env={**os.environ, "RESNET_URL": silent},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for command in COMMANDS
    ]
    time.sleep(delay_s)  # the moment is what is tested
    for process in processes:
        while sum(psutil.Process(process.pid).cpu_times()[:2]) < PYTHON_S:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
    for process, command in zip(processes, COMMANDS, strict=True):
        _, errors = process.communicate(timeout=WAIT_S)
        assert process.returncode == 130, errors
        assert errors.startswith(f"{command[0]}: interrupted")
        assert errors.count("\n") == 1
