"""Run servers as processes on free ports, and end them with all their child processes."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import psutil

_POLL_S = 0.05
_READY_S = 120.0
_TERMINATE_S = 5.0
_TAIL = 3000
_PORT_ATTEMPTS = 100


@contextlib.contextmanager
def serve(
    command: Sequence[str], environment: Mapping[str, str], request: Callable[[], object]
) -> Iterator[tuple[int, float]]:
    """Run a server during the block, which begins when ``request`` raises no ``OSError`` or ``EOFError`` any more.

    Yields its process id, and the seconds from its start to its first response.

    Raises:
        SystemExit: it exits, or is not ready in time; the message has the end of its log.
    """
    with tempfile.NamedTemporaryFile(prefix="benchmark-", suffix=".log") as log:
        began_s = time.monotonic()
        process = subprocess.Popen(
            command,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            try:
                _wait(process, request, began_s + _READY_S)
            except OSError as exc:
                tail = Path(log.name).read_text(encoding="utf-8", errors="replace")[-_TAIL:]
                raise SystemExit(f"{' '.join(command)}: {exc}\n{tail}") from exc
            yield process.pid, time.monotonic() - began_s
        finally:
            _stop(process)


def free_port(consecutive: int = 1) -> int:
    """The first of some adjacent ports of the loopback address without a listener.

    Raises:
        OSError: none were found.
    """
    for _ in range(_PORT_ATTEMPTS):
        with contextlib.suppress(OSError, OverflowError), contextlib.ExitStack() as stack:
            first = 0
            for offset in range(consecutive):
                probe = stack.enter_context(socket.socket())
                probe.bind(("127.0.0.1", first + offset if first else 0))
                first = first or probe.getsockname()[1]
            return first
    raise OSError(f"no {consecutive} adjacent ports are free")


def pause(pid: int) -> None:
    """Pause a process and its descendants, parents first: some servers poll without requests."""
    for process in _family(pid):
        with contextlib.suppress(psutil.NoSuchProcess):
            process.suspend()


def resume(pid: int) -> None:
    """Resume them, parents last, so that their children answer."""
    for process in reversed(_family(pid)):
        with contextlib.suppress(psutil.NoSuchProcess):
            process.resume()


def memory_mib(pid: int) -> float:
    """Memory of a process and its descendants in MiB; shared memory is counted proportionally (PSS)."""
    total = 0
    for process in _family(pid):
        with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
            total += process.memory_full_info().pss
    return total / 2**20


def _family(pid: int) -> list[psutil.Process]:
    """The process, its descendants and its session, older ones first: some outlive their parents."""
    found: set[psutil.Process] = set()
    with contextlib.suppress(psutil.NoSuchProcess):
        root = psutil.Process(pid)
        found |= {root, *root.children(recursive=True)}
    for process in psutil.process_iter():
        with contextlib.suppress(ProcessLookupError, psutil.NoSuchProcess):
            if os.getsid(process.pid) == pid:
                found.add(process)
    return sorted(found, key=lambda process: process.pid)


def _wait(process: subprocess.Popen[bytes], request: Callable[[], object], deadline_s: float) -> None:
    while True:
        try:
            request()
        except (OSError, EOFError) as exc:
            if process.poll() is not None:
                raise OSError(f"it exited with {process.returncode}") from exc
            if time.monotonic() > deadline_s:
                raise OSError(f"not ready after {_READY_S:g} s: {exc}") from exc
            time.sleep(_POLL_S)
        else:
            return


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End the process, then its remaining descendants."""
    resume(process.pid)
    family = _family(process.pid)
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(signal.SIGTERM)
    _, alive = psutil.wait_procs(family, timeout=_TERMINATE_S)
    for left in alive:
        with contextlib.suppress(psutil.NoSuchProcess):
            left.kill()
    process.wait()
