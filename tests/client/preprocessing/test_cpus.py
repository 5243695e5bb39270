"""How many CPUs a process may use, and how instances share them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from resnet_client.preprocessing import available_cpus


@pytest.mark.parametrize(
    ("memberships", "files", "limit"),
    [
        ("0::/\n", {"cpu.max": "150000 100000\n"}, 2),
        ("0::/\n", {"cpu.max": "max 100000\n"}, 4),
        ("0::/\n", {"cpu.max": "800000 100000\n"}, 4),
        # The smallest on the way up counts; a group above may be out of sight.
        ("0::/a/b\n", {"a/b/cpu.max": "300000 100000\n", "a/cpu.max": "100000 100000\n"}, 1),
        ("0::/pod/of/the/host\n", {"cpu.max": "200000 100000\n"}, 2),
        ("0::/\n", {"cpu.max": "garbage\n"}, 4),
        ("5:memory:/\n", {"cpu.max": "100000 100000\n"}, 4),
    ],
)
def test_available_cpus_are_limited_by_the_smallest_quota(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, memberships: str, files: dict[str, str], limit: int
) -> None:
    """Rounded up; never more than the cores."""
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "memberships").write_text(memberships)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3})
    assert available_cpus(tmp_path, tmp_path / "memberships") == limit


@pytest.mark.skipif(shutil.which("taskset") is None, reason="taskset is not installed")
def test_available_cpus_are_limited_by_taskset() -> None:
    """As ``taskset``, a scheduler or a container's cpuset restricts a process."""
    allowed = min(os.sched_getaffinity(0))
    code = "from resnet_client.preprocessing import available_cpus; print(available_cpus())"
    command = ["taskset", "--cpu-list", str(allowed), sys.executable, "-c", code]
    assert subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout == "1\n"
