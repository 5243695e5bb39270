"""Processes of a server under test, as the kernel shows them, and waits for what they do."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from resnet_serve import TritonServer

WAIT_S = 120


def children(pid: int) -> list[int]:
    """Processes that one has started, oldest first."""
    found = [task.read_text().split() for task in Path(f"/proc/{pid}/task").glob("*/children")]
    return sorted(int(child) for group in found for child in group)


def descendants(pid: int) -> list[int]:
    """All processes below one."""
    return [found for child in children(pid) for found in (child, *descendants(child))]


def of_server(server: TritonServer) -> int:
    """Process id of ``tritonserver``, the child of the watchdog."""
    assert server._watchdog is not None
    return children(server._watchdog.pid)[0]


def is_alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def resident_mib(server: int) -> float:
    """Memory of a server and of its workers in MiB, without shared libraries."""
    folders = [Path(f"/proc/{pid}") for pid in (server, *children(server))]
    sizes = [[int(pages) for pages in (folder / "statm").read_text().split()] for folder in folders]
    return sum(resident - shared for _, resident, shared, *_ in sizes) * 4096 / 2**20


def wait_for(condition: Callable[[], Any], what: str, *, every_s: float = 0.02) -> None:
    """Wait until a condition is true; fail with a message after two minutes."""
    deadline_s = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline_s, what
        time.sleep(every_s)


def wait_for_end(processes: list[int]) -> None:
    """Wait until none of the processes runs."""
    wait_for(lambda: not any(map(is_alive, processes)), "a process is left")
