"""A small process between the caller and the supervisor of ``tritonserver`` that never leaves anything behind.

It holds one end of a pipe. When the other end closes, because the caller stops the server or because the
caller is gone, be it by SIGKILL, the guard has the supervisor end the server, and removes the shared memory
that the server may have left, and the temporary files of a caller that is gone. If the guard itself is
killed, the kernel ends the supervisor, and with it the server, whose workers then end by themselves.

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
# Beyond the server's own limit for running requests; the supervisor ends the server sooner than that.
_SUPERVISOR_TIMEOUT_S = 30


def main() -> int:
    """Run a supervisor until it ends or the lifeline closes; return its exit code."""
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
    supervisor = subprocess.Popen(args.command, preexec_fn=_die_with_parent)  # noqa: PLW1509  # one thread
    try:
        ended = os.pidfd_open(supervisor.pid)
        select.select([ended, args.lifeline, stopping[0]], [], [])
        return _stop(supervisor, args.exit_timeout_s)
    finally:
        _remove_shared_memory(args.shm_prefix)
        if os.getppid() != caller:
            # Otherwise the caller still reads the log there, and removes it.
            shutil.rmtree(args.folder, ignore_errors=True)


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _stop(supervisor: subprocess.Popen[bytes], exit_timeout_s: int) -> int:
    with contextlib.suppress(ProcessLookupError):
        supervisor.send_signal(signal.SIGTERM)
    try:
        code = supervisor.wait(exit_timeout_s + _SUPERVISOR_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        supervisor.kill()
        code = supervisor.wait()
    return 128 - code if code < 0 else code


def _remove_shared_memory(prefix: str) -> None:
    for region in _SHARED_MEMORY.glob(f"{prefix}*"):
        region.unlink(missing_ok=True)


if __name__ == "__main__":
    sys.exit(main())
