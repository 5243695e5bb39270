"""The guard and servers that stop taking gRPC connections; what stands in for the server is a small script."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest
from resnet_serve import ServerConfig, TritonServer, guard, ports

WAIT_S = 30
PATIENCE_S = 1.0

# Greets who connects, as often as it is told to, and then only lets the kernel accept; ends after a while.
SERVER = """
import socket, sys, time
with socket.create_server(("127.0.0.1", int(sys.argv[1]))) as listener:
    listener.settimeout(float(sys.argv[3]))
    for _ in range(int(sys.argv[2])):
        listener.accept()[0].sendall(b"SETTINGS")
    time.sleep(float(sys.argv[3]))
"""


@pytest.fixture
def guarded() -> Iterator[Callable[..., tuple[int, str]]]:
    """Run a guard over the script that looks often; gives exit code and what was said."""
    lifeline, other_end = os.pipe()
    (port,) = ports.free_ports("127.0.0.1", 1)

    def run(greetings: int, lasts_s: float, *, is_watched: bool = True) -> tuple[int, str]:
        command = [sys.executable, guard.__file__, "--lifeline", str(lifeline), "--exit-timeout-s", "1"]
        command += ["--shm-prefix", "none_", "--folder", "none"]
        command += ["--grpc", f"127.0.0.1:{port}"] if is_watched else []
        command += ["--grpc-patience-s", str(PATIENCE_S), "--", sys.executable, "-c", SERVER]
        command += [str(port), str(greetings), str(lasts_s)]
        finished = subprocess.run(
            command, pass_fds=[lifeline], capture_output=True, text=True, timeout=WAIT_S, check=False
        )
        return finished.returncode, finished.stderr

    yield run
    os.close(lifeline)
    os.close(other_end)


@pytest.mark.parametrize("greetings", [0, 1])
def test_a_server_that_stops_greeting_is_ended(guarded: Callable[..., tuple[int, str]], greetings: int) -> None:
    """As by ``kill -9``, long before it would end; one line says why."""
    code, said = guarded(greetings=greetings, lasts_s=WAIT_S)
    assert code == 137
    assert said == "guard: tritonserver takes no gRPC connections any more and is ended\n"


def test_a_server_that_is_not_watched_is_left_alone(guarded: Callable[..., tuple[int, str]]) -> None:
    """As with TLS, where the caller speaks first."""
    assert guarded(greetings=0, lasts_s=3 * PATIENCE_S, is_watched=False) == (0, "")


@pytest.mark.parametrize("flags", ["--grpc-use-ssl=true", "--grpc-use-ssl true", "--grpc-use-ssl-mutual=true"])
def test_a_server_with_tls_by_its_own_flags_is_not_watched(flags: str) -> None:
    """As with our own options: it greets nobody who has not spoken first."""
    plain, encrypted = (TritonServer(ServerConfig("models", triton_args=tuple(a.split()))) for a in ("", flags))
    for server in (plain, encrypted):
        server._shm_prefix = "none_"
    assert "--grpc" in plain._guard_command(0)
    assert "--grpc" not in encrypted._guard_command(0)


def test_a_name_that_leads_nowhere_for_a_moment_tells_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The guard looks again, and ends neither itself nor the server."""
    reading, writing = os.pipe()
    asked: list[object] = []

    class Unresolved(socket.socket):
        """Finds no address; something else happens while it is asked for the third time."""

        def connect_ex(self, address: object) -> int:
            asked.append(address)
            if len(asked) == 3:
                os.write(writing, b".")
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(guard.socket, "socket", Unresolved)
    try:
        assert guard._wait([reading], "triton:8001", patience_s=0.1)
    finally:
        os.close(reading)
        os.close(writing)
    assert asked == [("triton", 8001)] * 3
