"""Several servers, some of which die: no call fails."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from resnet_client import Client
from resnet_serve import TritonServer

from . import processes
from .conftest import Callers

pytestmark = [pytest.mark.reliability, pytest.mark.timeout(900)]

RETURN_S = 60


def answered(server: TritonServer) -> int:
    """Images that this one server has preprocessed."""
    with Client(server.grpc_url) as client:
        return client.statistics(model="preprocess")[0].inference_count


def kill(server: TritonServer) -> None:
    """End a server without a word."""
    os.kill(processes.of_server(server), signal.SIGKILL)
    server.wait(30)


def test_server_pool_fails_no_call_when_one_of_three_dies(
    start_server: Callable[..., TritonServer], images: dict[str, Path], note: Callable[[str], None]
) -> None:
    """Under load, over gRPC and HTTP, one of three servers is killed and returns, another stops: no call fails."""
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
        kill(servers[1])
        for callers in (by_grpc, by_http):
            callers.wait_for(50)
        servers[1].restart()
        restarted_s, before = time.monotonic(), answered(servers[1])
        while answered(servers[1]) < before + 6:  # more than the probes
            assert time.monotonic() - restarted_s < RETURN_S, "the server that is back gets no traffic"
            by_grpc.wait_for(3)
        back_s = time.monotonic() - restarted_s
        servers[2].stop()
        for callers in (by_grpc, by_http):
            callers.wait_for(30)
    assert not by_grpc.failed
    assert not by_http.failed
    calls = [*by_grpc.calls, *by_http.calls]
    longest_s = max(call.duration_s for call in calls if call.sent_s + call.duration_s > killed_s)
    note(
        f"{len(calls)} calls over three servers, one killed and back, one stopped: 0 failed, "
        f"longest {longest_s:.2f} s; in use again {back_s:.1f} s after it was ready"
    )
