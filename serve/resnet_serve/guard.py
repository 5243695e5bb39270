"""A small process between the caller and the supervisor of ``tritonserver`` that never leaves anything behind.

It holds one end of a pipe. When the other end closes, because the caller stops the server or because the
caller is gone, be it by SIGKILL, the guard has the supervisor end the server, and removes the shared memory
that the server may have left, and the temporary files of a caller that is gone. If the guard itself is
killed, the kernel ends the supervisor, and with it the server, whose workers then end by themselves.

It also ends a server that lives on but takes no gRPC connections any more, so that it can be started again.
Requests that are cancelled at the wrong moment crash Triton 2.51 (server#7368, mended in 25.01), or leave its gRPC
end dead while HTTP goes on (server#6899).

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
import socket
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
    parser.add_argument(
        "--grpc", metavar="HOST:PORT", help="where connections are to be taken, without TLS (default: not watched)"
    )
    parser.add_argument("--grpc-patience-s", type=float, default=30.0)
    parser.add_argument("command", nargs="+")
    args = parser.parse_args()
    caller = os.getppid()
    stopping = os.pipe()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: os.write(stopping[1], b"."))
    supervisor = subprocess.Popen(args.command, preexec_fn=_die_with_parent)  # noqa: PLW1509  # one thread
    try:
        ended = os.pidfd_open(supervisor.pid)
        if not _wait([ended, args.lifeline, stopping[0]], args.grpc, args.grpc_patience_s):
            print("guard: tritonserver takes no gRPC connections any more and is ended", file=sys.stderr, flush=True)  # noqa: T201  # a command
            supervisor.kill()
        return _stop(supervisor, args.exit_timeout_s)
    finally:
        remove_shared_memory(args.shm_prefix)
        if os.getppid() != caller:
            # Otherwise the caller still reads the log there, and removes it.
            shutil.rmtree(args.folder, ignore_errors=True)


def _wait(events: list[int], grpc: str | None, patience_s: float) -> bool:
    """Wait for one of the events; return False if the server stops greeting who connects to its gRPC end."""
    if grpc is None:
        return bool(select.select(events, [], []))
    host, _, port = grpc.rpartition(":")
    while True:
        with socket.socket() as connection:
            connection.setblocking(False)
            with contextlib.suppress(OSError):  # a name that leads nowhere for a moment tells nothing of the server
                connection.connect_ex((host, int(port)))
            # Readable: HTTP/2 begins with the server's SETTINGS; or nobody listens, as while it starts, or was asked.
            found = select.select([*events, connection.fileno()], [], [], patience_s)[0]
            if not found:
                return False
        if not {*found}.isdisjoint(events) or select.select(events, [], [], patience_s / 6)[0]:
            return True


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


def remove_shared_memory(prefix: str) -> None:
    """Remove the regions of a server that has ended; their names begin so."""
    for region in _SHARED_MEMORY.glob(f"{prefix}*"):
        region.unlink(missing_ok=True)


if __name__ == "__main__":
    sys.exit(main())
