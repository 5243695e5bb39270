"""Warnings of hosts that are too small, with configs as a server reports them."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from resnet_serve import ModelStatus, host_checks

MB = 10**6


@pytest.fixture(autouse=True)
def host(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Four cores, no quota, enough shared memory."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3})
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(1000 * MB, 0, 1000 * MB))
    monkeypatch.setattr(host_checks, "_MEMBERSHIPS", Path(os.devnull))
    return monkeypatch


def network(backend: str, *, count: int = 1, kind: str = "KIND_CPU", **config: Any) -> ModelStatus:
    """A network as a server reports it."""
    config["instance_group"] = [{"count": count, "kind": kind, "gpus": []}]
    return ModelStatus("network", (1,), backend, 32, "CPU", config)


def parameters(**values: str) -> dict[str, dict[str, str]]:
    """Parameters as in a config."""
    return {name: {"string_value": value} for name, value in values.items()}


def test_little_shared_memory_is_reported(host: pytest.MonkeyPatch) -> None:
    """Docker gives a container 64 MB unless told otherwise."""
    assert host_checks.warnings([]) == []
    host.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(64 * MB, 0, 64 * MB))
    (message,) = host_checks.warnings([])
    assert message.startswith("/dev/shm has 64 MB free")
    assert "--shm-size=1g" in message


@pytest.mark.parametrize(
    ("model", "threads"),
    [
        (network("onnxruntime", count=2, parameters=parameters(intra_op_thread_count="3")), 6),
        (network("openvino", count=3, parameters=parameters(INFERENCE_NUM_THREADS="2")), 6),
        (network("pytorch", parameters=parameters(INTRA_OP_THREAD_COUNT="5")), 5),
        (network("onnxruntime", count=2, parameters=parameters(intra_op_thread_count="2")), None),
        (network("onnxruntime", count=2), None),  # they divide the cores
        (network("onnxruntime", kind="KIND_GPU", parameters=parameters(intra_op_thread_count="9")), None),
        (network("python", count=9), None),
    ],
)
def test_more_threads_than_cores_are_reported(model: ModelStatus, threads: int | None) -> None:
    """Those of all instances of a network on the CPU together."""
    expected = f"network computes with {threads} threads, but this process may use 4 CPUs: "
    remedy = "resnet-build --instances 1 --threads 4"
    assert host_checks.warnings([model]) == ([] if threads is None else [expected + remedy])


@pytest.mark.parametrize(
    ("memberships", "files", "limit"),
    [
        ("0::/\n", {"cpu.max": "150000 100000\n"}, 2),
        ("0::/\n", {"cpu.max": "max 100000\n"}, 4),
        ("0::/\n", {"cpu.max": "800000 100000\n"}, 4),
        # The smallest on the way up counts; a group above may be out of sight.
        ("0::/a/b\n", {"a/b/cpu.max": "300000 100000\n", "a/cpu.max": "100000 100000\n"}, 1),
        ("0::/pod/of/the/host\n", {"cpu.max": "200000 100000\n"}, 2),
        (
            "5:cpu,cpuacct:/docker/1\n1:memory:/docker/1\n",
            {"cpu/cpu.cfs_quota_us": "250000\n", "cpu/cpu.cfs_period_us": "100000\n"},
            3,
        ),
        ("5:cpu:/\n0::/\n", {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 4),
        ("5:memory:/\n", {"cpu.max": "100000 100000\n"}, 4),
    ],
)
def test_quotas_of_control_groups_count(
    host: pytest.MonkeyPatch, tmp_path: Path, memberships: str, files: dict[str, str], limit: int
) -> None:
    """Of both versions, rounded up; never more than the cores."""
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "memberships").write_text(memberships)
    host.setattr(host_checks, "_CGROUPS", tmp_path)
    host.setattr(host_checks, "_MEMBERSHIPS", tmp_path / "memberships")
    assert host_checks.cpu_limit() == limit


def test_an_engine_cache_that_cannot_be_written_is_reported(tmp_path: Path) -> None:
    """Each folder once, and only for a network on a GPU."""
    (tmp_path / "there").mkdir()

    def accelerated(cache: Path, kind: str = "KIND_GPU") -> ModelStatus:
        given = {"trt_engine_cache_path": str(cache), "trt_timing_cache_path": str(cache), "precision_mode": "FP16"}
        accelerators = {"gpu_execution_accelerator": [{"name": "tensorrt", "parameters": given}]}
        return network("onnxruntime", kind=kind, optimization={"execution_accelerators": accelerators})

    assert host_checks.warnings([accelerated(tmp_path / "there")]) == []
    assert host_checks.warnings([accelerated(tmp_path / "missing", "KIND_CPU")]) == []
    (message,) = host_checks.warnings([accelerated(tmp_path / "missing")])
    assert message.startswith(f"network cannot keep compiled engines in {tmp_path / 'missing'}")
