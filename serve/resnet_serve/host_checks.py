"""Warns of a host that makes a server slow or lets requests fail, although it starts."""

from __future__ import annotations

import contextlib
import math
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from resnet_client.model_configs import THREADS

from resnet_serve.models import ModelStatus

_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108  # where Triton and its workers exchange tensors
_CGROUPS = Path("/sys/fs/cgroup")
_MEMBERSHIPS = Path("/proc/self/cgroup")
_ENOUGH_SHARED_MEMORY_MB = 256


def warnings(models: Iterable[ModelStatus]) -> list[str]:
    """Return one message for each problem of this host with these models, which are served on it."""
    found: list[str] = []
    with contextlib.suppress(OSError, ValueError):  # a host without these files gets no warning
        found += _shared_memory()
        for model in models:
            found += [*_threads(model), *_engine_caches(model)]
    return found


def _shared_memory() -> Iterator[str]:
    free_mb = shutil.disk_usage(_SHARED_MEMORY).free / 1e6
    if free_mb < _ENOUGH_SHARED_MEMORY_MB:
        yield (
            f"{_SHARED_MEMORY} has {free_mb:.0f} MB free, and large batches may fail: make it 1 GB "
            f"(docker run --shm-size=1g, or mount -o remount,size=1g {_SHARED_MEMORY})"
        )


def _instances(model: ModelStatus, kind: str) -> int:
    return sum(group["count"] for group in model.config.get("instance_group", []) if group["kind"] == kind)


def _threads(model: ModelStatus) -> Iterator[str]:
    instances = _instances(model, "KIND_CPU")
    if instances == 0 or model.backend not in THREADS:
        return
    number = model.config.get("parameters", {}).get(THREADS[model.backend], {}).get("string_value", "")
    # Instances without a number of threads divide the cores.
    threads = instances * int(number) if number.isdecimal() and int(number) else len(os.sched_getaffinity(0))
    if threads > (limit := cpu_limit()):
        yield (
            f"{model.name} computes with {threads} threads, but this process may use {limit} CPUs: "
            f"resnet-build --instances 1 --threads {limit}"
        )


def _engine_caches(model: ModelStatus) -> Iterator[str]:
    if _instances(model, "KIND_GPU") == 0:
        return
    accelerators = model.config.get("optimization", {}).get("execution_accelerators", {})
    for accelerator in accelerators.get("gpu_execution_accelerator", []):
        caches = {value for key, value in accelerator["parameters"].items() if key.endswith("cache_path")}
        for cache in sorted(caches):
            if not os.access(cache, os.W_OK | os.X_OK):
                yield f"{model.name} cannot keep compiled engines in {cache}: make it a folder that this user can write"


def cpu_limit() -> int:
    """Return how many CPUs this process may use, by its affinity and the quotas of its control groups, rounded up."""
    quotas = _quotas(_CGROUPS, _MEMBERSHIPS.read_text(encoding="utf-8"))
    return math.ceil(min([len(os.sched_getaffinity(0)), *quotas]))


def _quotas(root: Path, memberships: str) -> Iterator[float]:
    """CPUs by the quota of each control group from the process's own up to the top, of version 2 and of version 1."""
    for line in memberships.splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        top = root / "cpu" if controllers else root
        names = ("cpu.cfs_quota_us", "cpu.cfs_period_us") if controllers else ("cpu.max",)
        # In a container the path may be the host's; the group at the top is then the container's own.
        for folder in (top / path[1:], *(top / path[1:]).parents):
            if not folder.is_relative_to(top):
                break
            if (folder / names[0]).exists():
                quota, period = " ".join((folder / name).read_text(encoding="ascii") for name in names).split()
                if quota not in ("max", "-1"):
                    yield int(quota) / int(period)
