"""Servers as processes: started on a free port, ready when they answer, gone with all their children after."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import psutil

_POLL_S = 0.1
_READY_S = 120.0
_TERMINATE_S = 15.0
_TAIL = 3000


@contextlib.contextmanager
def serving(command: Sequence[str], environment: Mapping[str, str], port: int) -> Iterator[int]:
    """Run a server until the block ends; gives its process id once something listens on the port.

    Raises:
        SystemExit: it ends, or is not ready in time; the message has the end of its log.
    """
    with tempfile.NamedTemporaryFile(prefix="benchmark-", suffix=".log") as log:
        process = subprocess.Popen(
            command,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            _wait(process, port, Path(log.name))
            yield process.pid
        finally:
            _stop(process)


def cpu_seconds(pid: int) -> dict[str, float]:
    """CPU time so far of a process and all below it, in seconds, by command line."""
    spent: dict[str, float] = {}
    for process in _family(pid):
        with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
            times = process.cpu_times()
            name = " ".join(process.cmdline())
            spent[name] = spent.get(name, 0.0) + times.user + times.system
    return spent


def memory_mib(pid: int) -> float:
    """Memory of a process and all below it in MiB; what several share counts once in proportion (PSS)."""
    total = 0
    for process in _family(pid):
        with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
            total += process.memory_full_info().pss
    return total / 2**20


def _family(pid: int) -> list[psutil.Process]:
    try:
        root = psutil.Process(pid)
        return [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _wait(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + _READY_S
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        if process.poll() is not None or time.monotonic() > deadline:
            tail = log.read_text(errors="replace")[-_TAIL:]
            raise SystemExit(f"{process.args!r} was not ready (exit code {process.returncode}):\n{tail}")
        time.sleep(_POLL_S)


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End the process, then whatever of its family it has left."""
    family = _family(process.pid)
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(signal.SIGTERM)
    _, alive = psutil.wait_procs(family, timeout=_TERMINATE_S)
    for left in alive:
        with contextlib.suppress(psutil.NoSuchProcess):
            left.kill()
    process.wait()
