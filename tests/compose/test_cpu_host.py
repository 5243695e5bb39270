"""From nothing to a healthy server on a machine without a GPU, and everything that works around it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator

import pytest
from resnet_client import Client, RequestError

from . import project
from .project import Project

pytestmark = [pytest.mark.compose, pytest.mark.timeout(1800)]

TOKEN = "compose-tests-0123456789"  # noqa: S105  # of servers that live for minutes, on loopback
CAT_CLASSES = range(281, 288)


@pytest.fixture(scope="module")
def served() -> Iterator[Project]:
    """`docker compose up triton-cpu`, healthy; taken away at the end without a trace."""
    with project.project("cpu", RESNET_ADMIN_TOKEN=TOKEN, LOADTEST_RATE="5/s", LOADTEST_DURATION="15s") as made:
        made.run("up", "--build", "--wait", "--wait-timeout", "600", "triton-cpu")
        yield made
    assert made.remains() == []


def test_a_photo_is_classified_from_the_host(served: Project, cat: bytes) -> None:
    """Over gRPC and HTTP, and rightly."""
    for url in (served.grpc_url, served.http_url):
        with Client(url) as client:
            assert client.classify(cat).top.index in CAT_CLASSES


def test_the_image_holds_no_torch(served: Project) -> None:
    """It is most of the size, and served is ONNX; the server says what it leaves out."""
    done = served.run("exec", "-T", "triton-cpu", "python3", "-c", "import torch", check=False)
    assert "No module named 'torch'" in done.stdout
    assert "network_torchscript    is not served: torch is not installed" in served.logs("triton-cpu")


def test_strangers_classify_and_no_more(served: Project) -> None:
    """What administers the server wants the token."""
    with Client(served.grpc_url, admin_token="") as client, pytest.raises(RequestError):
        client.statistics()
    with Client(served.grpc_url, admin_token=TOKEN) as client:
        assert client.statistics(model="resnet50")


def test_a_dead_worker_is_replaced(served: Project, cat: bytes) -> None:
    """Without a hand, and the container goes on."""
    processes = served.docker("top", served.container("triton-cpu"), "-eo", "pid,args")
    (worker,) = [int(line.split()[0]) for line in processes.splitlines() if "stub /models/preprocess/" in line]
    os.kill(worker, signal.SIGKILL)
    with Client(served.grpc_url, timeout_s=60) as client:
        client.wait_until_ready(60)
        assert client.classify(cat).top.index in CAT_CLASSES
    assert "a worker of preprocess died" in served.logs("triton-cpu")
    served.wait_for_health("triton-cpu", "healthy", 60)


def test_two_workers_load_it_and_report(served: Project) -> None:
    """The load test's profile leaves a report in its volume; client's and server's counts are judged by it."""
    services = ("loadtest", "loadtest-worker")
    done = served.run(
        "up",
        "--build",
        "--scale",
        "loadtest-worker=2",
        "--attach",
        "loadtest",
        "--exit-code-from",
        "loadtest",
        *services,
    )
    assert "valid" in done.stdout
    script = "import glob, sys; sys.stdout.write(open(glob.glob('/results/*.json')[0]).read())"
    # `run` prints the creation of its container, too.
    printed = served.run("run", "--rm", "--no-deps", "-T", "--entrypoint", "python", "loadtest", "-c", script).stdout
    report = json.loads(printed[printed.index("{") :])
    assert report["whole"]["requests"] > 20
    assert report["whole"]["error_rate"] == 0


def test_another_build_does_nothing(served: Project) -> None:
    """What is up to date stays as it is."""
    assert "up to date" in served.run("run", "--rm", "--no-deps", "-T", "build").stdout


def test_it_stops_when_told(served: Project) -> None:
    """SIGTERM ends it by itself, before the engine would kill it."""
    served.run("stop", "--timeout", "50", "triton-cpu")
    state = served.docker(
        "inspect", "--format", "{{.State.ExitCode}} {{.State.OOMKilled}}", served.container("triton-cpu")
    )
    assert state.split() == ["0", "false"]
    assert subprocess.run(["docker", "volume", "ls", "-q"], capture_output=True, text=True, check=True).stdout
