"""How many CPUs a process may use: the rule for all numbers of threads and instances.

It is in this package because `preprocess` uses it, too, where the project is not installed.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterator
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")
_MEMBERSHIPS = Path("/proc/self/cgroup")


def available_cpus(cgroups: Path = _CGROUPS, memberships: Path = _MEMBERSHIPS) -> int:
    """Return how many CPUs this process may use, by its affinity and the quotas of its control groups, rounded up."""
    if sys.platform != "linux":
        return os.cpu_count() or 1
    affinity = len(os.sched_getaffinity(0))
    try:
        return math.ceil(min([affinity, *_quotas(cgroups, memberships.read_text(encoding="utf-8"))]))
    except (OSError, ValueError):  # a container that hides its control groups
        return affinity


def threads_per_instance(cpus: int, instances: int) -> int:
    """Return how many threads each instance of a network gets: the instances share the CPUs equally."""
    return max(1, cpus // instances)


def _quotas(root: Path, memberships: str) -> Iterator[float]:
    """Yield the CPU quota of each control group (version 2), from the process's own up to the top."""
    (path,) = (line.removeprefix("0::/") for line in memberships.splitlines() if line.startswith("0::/"))
    # In a container the path may be that of the host; the top group is then that of the container.
    for folder in (root / path, *(root / path).parents):
        if folder.is_relative_to(root) and (folder / "cpu.max").exists():
            quota, period = (folder / "cpu.max").read_text(encoding="ascii").split()
            if quota != "max":
                yield int(quota) / int(period)
