"""A small process between the caller and ``tritonserver`` that never leaves anything behind.

It holds one end of a pipe. When the other end closes, because the caller stops the server or because the
caller is gone, be it by SIGKILL, the guard lets ``tritonserver`` finish its requests, ends it, and removes
the shared memory that it may have left, and the temporary files of a caller that is gone. If the guard
itself is killed, the kernel ends ``tritonserver``, whose workers then end by themselves.

Run as a script with the standard library alone, so that it starts in milliseconds.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import os
import select
import shutil
import signal
import subprocess
import sys
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108  # where Triton's Python backend keeps its regions
# Beyond the server's own limit for running requests: unloading models and ending workers.
_UNLOAD_TIMEOUT_S = 15


def main() -> int:
    """Run a server until it ends or the lifeline closes; return its exit code."""
    parser = argparse.ArgumentParser(prog="guard")
    parser.add_argument("--lifeline", type=int, required=True, help="file descriptor whose closing ends the server")
    parser.add_argument("--exit-timeout-s", type=int, required=True)
    parser.add_argument("--shm-prefix", required=True)
    parser.add_argument("--folder", type=Path, required=True, help="removed if the caller is gone")
    parser.add_argument("command", nargs="+")
    args = parser.parse_args()
    caller = os.getppid()
    stopping = os.pipe()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: os.write(stopping[1], b"."))
    server = subprocess.Popen(args.command, preexec_fn=_die_with_parent, start_new_session=True)  # noqa: PLW1509  # one thread
    try:
        ended = os.pidfd_open(server.pid)
        select.select([ended, args.lifeline, stopping[0]], [], [])
        return _stop(server, args.exit_timeout_s)
    finally:
        _remove_shared_memory(args.shm_prefix)
        if os.getppid() != caller:
            # Otherwise the caller still reads the log there, and removes it.
            shutil.rmtree(args.folder, ignore_errors=True)


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _stop(server: subprocess.Popen[bytes], exit_timeout_s: int) -> int:
    """Let the server finish; if it does not, end it with its workers."""
    with contextlib.suppress(ProcessLookupError):
        server.send_signal(signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        server.wait(exit_timeout_s + _UNLOAD_TIMEOUT_S)
    # The server leads its own session; whatever is left of its group are workers.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(server.pid, signal.SIGKILL)
    code = server.wait()
    return 128 - code if code < 0 else code


def _remove_shared_memory(prefix: str) -> None:
    for region in _SHARED_MEMORY.glob(f"{prefix}*"):
        region.unlink(missing_ok=True)


if __name__ == "__main__":
    sys.exit(main())
