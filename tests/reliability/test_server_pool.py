"""Several servers, some of which die: no call fails."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import processes
import pytest
from resnet_client import Client
from resnet_serve import TritonServer

from .conftest import Callers

pytestmark = [pytest.mark.reliability, pytest.mark.timeout(900)]

RETURN_S = 60


def answered(server: TritonServer) -> int:
    """Images that this one server has preprocessed."""
    with Client(server.grpc_url) as client:
        return client.statistics(model="preprocess")[0].inference_count


def wait_until_used(server: TritonServer) -> float:
    """Wait until a server that has started again answers more calls than the probes; return the seconds."""
    started_s, before = time.monotonic(), answered(server)
    processes.wait_for(lambda: answered(server) >= before + 6, "a server that is back gets no calls", every_s=0.2)
    return time.monotonic() - started_s


def test_server_pool_fails_no_call_while_servers_end(
    start_server: Callable[..., TritonServer], images: dict[str, Path], note: Callable[[str], None]
) -> None:
    """Under load, over gRPC and HTTP: one of three servers is killed, then all are restarted in turn."""
    servers = [start_server() for _ in range(3)]
    image = images["cat"].read_bytes()
    with (
        Client([server.grpc_url for server in servers]) as one,
        Client([server.http_url for server in servers]) as other,
        Callers(one, image, count=2) as by_grpc,
        Callers(other, image, count=2) as by_http,
    ):
        for callers in (by_grpc, by_http):
            callers.wait_for(30)
        assert all(answered(server) > 0 for server in servers)
        killed_s = time.monotonic()
        os.kill(processes.of_server(servers[1]), signal.SIGKILL)
        servers[1].wait(30)
        for callers in (by_grpc, by_http):
            callers.wait_for(50)
        backs_s = []
        for server in (servers[1], *servers):
            server.restart()
            backs_s.append(wait_until_used(server))
    assert not by_grpc.failed
    assert not by_http.failed
    assert max(backs_s) < RETURN_S
    calls = [*by_grpc.calls, *by_http.calls]
    longest_s = max(call.duration_s for call in calls if call.sent_s + call.duration_s > killed_s)
    note(
        f"{len(calls)} calls over three servers, one killed, four restarts: 0 failed, longest {longest_s:.2f} s; in "
        f"use again at most {max(backs_s):.1f} s after the start"
    )
