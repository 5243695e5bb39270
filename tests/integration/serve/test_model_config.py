"""A named model config: who uses it, and who says so."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

from resnet_client import ClientConfig
from resnet_client.admin import ModelControl


def workers(processes: list[int]) -> set[int]:
    """The workers of models among processes."""
    commands = {}
    for pid in processes:
        try:
            commands[pid] = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0]
        except (FileNotFoundError, ProcessLookupError):
            continue
    return {pid for pid, command in commands.items() if command.endswith(b"triton_python_backend_stub")}


def instances(url: str) -> int:
    """How many instances of ``preprocess`` the server has configured."""
    with ModelControl(ClientConfig(url=url)) as control:
        return sum(group["count"] for group in control.config("preprocess")["instance_group"])


def test_a_replaced_worker_keeps_the_named_config(serving: Callable, wait_for: Callable, one_model: Path) -> None:
    """The server uses the tuned config, prints that it does, and has it after a worker was replaced, too."""
    text = (one_model / "preprocess/config.pbtxt").read_text()
    (one_model / "preprocess/configs").mkdir()
    (one_model / "preprocess/configs/tuned.pbtxt").write_text(text.replace("count: 1", "count: 2"))
    with serving(one_model) as running:
        assert "  model config tuned: preprocess" in running.lines
        first = workers(running.processes())
        assert len(first) == 2
        os.kill(min(first), signal.SIGKILL)
        wait_for(lambda: not first & workers(running.processes()), "the workers were not replaced")
        wait_for(lambda: len(workers(running.processes())) == 2, "a worker is missing")
        assert instances(running.url("gRPC")) == 2
        assert running.answers()


def test_no_named_config_is_used_if_none_is_asked_for(serving: Callable, one_model: Path) -> None:
    """``--model-config-name none`` brings ``config.pbtxt`` back."""
    text = (one_model / "preprocess/config.pbtxt").read_text()
    (one_model / "preprocess/configs").mkdir()
    (one_model / "preprocess/configs/tuned.pbtxt").write_text(text.replace("count: 1", "count: 2"))
    with serving(one_model, "--model-config-name", "none") as running:
        assert not [line for line in running.lines if "model config" in line]
        assert instances(running.url("gRPC")) == 1
