"""Causes of failed starts in a log, and warnings of hosts that are too small, with configs as a server reports them."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from resnet_serve import ModelStatus, ServerError, diagnosis
from resnet_serve.config import PortTakenError, UnservableError

MB = 10**6
ERROR = "E1123 x.cc:1]"


@pytest.mark.parametrize(
    ("line", "kind", "message"),
    [
        (f"{ERROR} the artifact /models/net/1/model.onnx is missing: run", UnservableError, "run resnet-build"),
        ("ModuleNotFoundError: No module named 'PIL'", UnservableError, "a package is missing"),
        ("bind: Address already in use", PortTakenError, "a port is taken"),
        ("x: error while loading shared libraries: libz.so.9: x", UnservableError, "a shared library is missing"),
        ("write: No space left on device", ServerError, "a file system is full"),
        (f"{ERROR} the artifact /models/net/1/model.onnx cannot be loaded: std::bad_alloc", ServerError, "is damaged"),
    ],
)
def test_cause_is_read_from_the_log(tmp_path: Path, line: str, kind: type[ServerError], message: str) -> None:
    """With a remedy, and quoting the log; what an earlier start has logged is over."""
    log = tmp_path / "log"
    log.write_text(f"I1123 x.cc:1] hello\n{line}\n")
    cause = diagnosis.cause(log)
    assert type(cause) is kind
    assert message in str(cause)
    assert diagnosis.cause(log, since=log.stat().st_size) is None


def test_error_lines_are_shown_without_the_harmless_ones(tmp_path: Path) -> None:
    """Errors that every machine without a GPU logs are left out; without error lines, the end of the log is shown."""
    log = tmp_path / "log"
    assert diagnosis.error_lines(log) == ""
    log.write_text("one\ntwo")
    assert diagnosis.error_lines(log) == "one\ntwo"
    log.write_text("E1123 a.cc:1] CudaDriverHelper has not\nI1123 fine\nE1123 b.cc:2] real\nerror: creating server\n")
    assert diagnosis.error_lines(log) == "E1123 b.cc:2] real\nerror: creating server"
    assert diagnosis.cause(log) is None


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("net", "Poll failed for model directory 'net': failed to read text proto"),
        ("net_2", "ensemble 'net_2' depends on 'net' which has no loaded version: At:"),
        ("2", ""),
        ("other", ""),
    ],
)
def test_first_error_names_the_model(tmp_path: Path, model: str, message: str) -> None:
    """As a word of its own, not in a path or in another name; without the traceback."""
    log = tmp_path / "log"
    log.write_text(
        'I1123 a.cc:1] "loading: net"\n'
        'E1123 b.cc:2] "the artifact /models/net/1/model.onnx is missing"\n'
        "E1123 c.cc:3] \"Poll failed for model directory 'net': failed to read text proto\"\n"
        "E1123 d.cc:4] \"ensemble 'net_2' depends on 'net' which has no loaded version: At:\\n  long\"\n"
    )
    assert diagnosis.first_error(log, model) == message
    assert diagnosis.first_error(log, model, since=log.stat().st_size) == ""


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Four cores, no quota, enough shared memory."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3})
    monkeypatch.setattr(diagnosis, "available_cpus", lambda: 4)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000 * MB))
    return monkeypatch


def network(backend: str, *, count: int = 1, kind: str = "KIND_CPU", **config: Any) -> ModelStatus:
    """A network as a server reports it."""
    config["instance_group"] = [{"count": count, "kind": kind, "gpus": []}]
    return ModelStatus("network", (1,), backend, 32, "CPU", config)


def parameters(**values: str) -> dict[str, dict[str, str]]:
    """Parameters as in a config."""
    return {name: {"string_value": value} for name, value in values.items()}


def test_warnings_report_little_shared_memory(host: pytest.MonkeyPatch) -> None:
    """Docker gives a container 64 MB by default."""
    assert diagnosis.warnings([]) == []
    host.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=64 * MB))
    (message,) = diagnosis.warnings([])
    assert message.startswith("/dev/shm has only 64 MB free")
    assert "--shm-size=1g" in message


@pytest.mark.parametrize(
    ("model", "threads"),
    [
        (network("onnxruntime", count=2, parameters=parameters(intra_op_thread_count="3")), 6),
        (network("openvino", count=3, parameters=parameters(INFERENCE_NUM_THREADS="2")), 6),
        (network("pytorch", parameters=parameters(INTRA_OP_THREAD_COUNT="5")), 5),
        (network("onnxruntime", count=2), None),  # they divide the cores
        (network("onnxruntime", kind="KIND_GPU", parameters=parameters(intra_op_thread_count="9")), None),
        (network("python", count=9), None),
    ],
)
def test_warnings_report_more_threads_than_cores(
    host: pytest.MonkeyPatch, model: ModelStatus, threads: int | None
) -> None:
    """Those of all instances of a network on the CPU together."""
    expected = f"network uses {threads} threads, but this process may use only 4 CPUs: run "
    remedy = "resnet-build --instances 1 --threads 4"
    assert diagnosis.warnings([model]) == ([] if threads is None else [expected + remedy])
