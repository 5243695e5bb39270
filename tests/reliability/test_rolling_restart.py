"""Three servers on addresses of their own, all restarted one after the other under load: no call fails.

Once with the addresses written down, once behind a name whose addresses change as those of a headless service do. Names
come from the system's own resolver, which reads a hosts file that only the caller's mount namespace sees.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from processes import wait_for
from resnet_serve import ServerConfig, TritonServer
from resnet_serve.ports import free_ports

from .test_server_pool import answered, wait_until_used

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

HOSTS = ("127.0.0.2", "127.0.0.3", "127.0.0.4")
NAME = "servers.test"
DURATION_S = 600.0

needs_namespaces = pytest.mark.skipif(
    subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode != 0,
    reason="mount namespaces need more rights than this user has",
)


@pytest.fixture(scope="module")
def servers(repository: Path) -> Iterator[list[TritonServer]]:
    """Three servers with the same ports on three addresses."""
    port = free_ports(HOSTS[0], 1)[0]
    with contextlib.ExitStack() as running:
        yield [running.enter_context(TritonServer(ServerConfig(repository, host=host, port=port))) for host in HOSTS]


@contextlib.contextmanager
def calling(*command: str) -> Iterator[dict[str, object]]:
    """Callers during the block; what they found is in the dictionary afterwards."""
    found: dict[str, object] = {}
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == "ready\n"
        yield found
        output, _ = process.communicate(timeout=120)
        found.update(json.loads(output))
    finally:
        process.kill()
        process.communicate()


def caller(url: str, image: Path) -> list[str]:
    """The command of the program next to this file."""
    return [sys.executable, str(Path(__file__).with_name("calling.py")), url, str(image)]


def report(note: Callable[[str], None], found: dict[str, object], restarts: int) -> None:
    """Note the results, and hold the promise."""
    durations_s = np.array(found["durations_s"])
    p50, p99 = np.percentile(durations_s, [50, 99])
    failed = sum(found["failures"].values())
    note(
        f"{restarts} restarts of three servers under {len(durations_s)} calls: {failed} failed, "
        f"p50 {p50 * 1000:.0f} ms, p99 {p99 * 1000:.0f} ms, longest {durations_s.max():.2f} s"
    )
    assert not found["failures"]


def test_rolling_restart_fails_no_call(
    servers: list[TritonServer], images: dict[str, Path], note: Callable[[str], None]
) -> None:
    """For ten minutes, servers are restarted without a warning to the clients."""
    url = ",".join(server.grpc_url for server in servers)
    began_s, restarts = time.monotonic(), 0
    with calling(*caller(url, images["cat"])) as found:
        while restarts < len(servers) or time.monotonic() - began_s < DURATION_S:
            server = servers[restarts % len(servers)]
            server.restart()
            restarts += 1
            wait_until_used(server)
    report(note, found, restarts)


@needs_namespaces
def test_callers_follow_a_name(
    servers: list[TritonServer], images: dict[str, Path], tmp_path: Path, note: Callable[[str], None]
) -> None:
    """Each server leaves the name, is restarted when it gets no more calls, and comes back to the name."""
    hosts = tmp_path / "hosts"

    def publish(addresses: list[str]) -> None:
        hosts.write_text("".join(f"{address} {NAME}\n" for address in addresses))

    publish(list(HOSTS))
    port = servers[0].grpc_url.rsplit(":", 1)[1]
    mounted = ["unshare", "--mount", "bash", "-c", 'mount --bind "$0" /etc/hosts && exec "$@"', str(hosts)]
    with calling(*mounted, *caller(f"dns:///{NAME}:{port}", images["cat"])) as found:
        for server in servers:
            host = server.config.host
            publish([address for address in HOSTS if address != host])
            counts = [answered(server)]

            def is_left(server: TritonServer = server, counts: list[int] = counts) -> bool:
                counts.append(answered(server))
                return len(counts) > 10 and counts[-1] == counts[-10]

            wait_for(is_left, "a server that has left the name is still called", every_s=0.2)
            server.restart()
            publish(list(HOSTS))
            wait_until_used(server)
    report(note, found, len(servers))
