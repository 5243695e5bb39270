"""From nothing to a healthy server on a machine without a GPU, and everything that works around it."""

from __future__ import annotations

import json
import socket
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from resnet_client import Client, ClientConfig, RequestError
from resnet_client.admin import ModelControl

from . import project
from .project import Project

pytestmark = [pytest.mark.compose, pytest.mark.timeout(1800)]

TOKEN = "compose-tests-0123456789"  # noqa: S105  # of servers that live for minutes, on loopback
CAT_CLASSES = range(281, 288)
FOLDER = Path(__file__).parent
LONGEST_WAIT_S = 60
MOST_ADDED_BYTES = 530_000_000


@pytest.fixture(scope="module")
def served() -> Iterator[Project]:
    """`docker compose up build triton-wheel`, healthy; taken away at the end without a trace."""
    variables = {"RESNET_ADMIN_TOKEN": TOKEN, "LOADTEST_RATE": "5/s", "LOADTEST_DURATION": "15s"}
    with project.project("cpu", FOLDER / "prometheus.yml", **variables) as made:
        made.run("up", "--build", "--wait", "--wait-timeout", "600", "build", "triton-wheel")
        yield made
    assert made.remains() == []


def test_wheel_classifies_over_grpc_only(served: Project, cat: bytes) -> None:
    """HTTP is not published, and only the healthcheck uses it; a warning names the release."""
    with Client(served.grpc_url) as client:
        assert client.classify(cat).top.index in CAT_CLASSES
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", served.ports["HTTP_PORT"])) != 0
    assert "for trusted networks only" in served.logs("triton-wheel")


def test_image_has_no_torch(served: Project) -> None:
    """Torch is most of the size, and ONNX is served; the server reports what it does not serve."""
    done = served.run("exec", "-T", "triton-wheel", "python3", "-c", "import torch", check=False)
    assert "No module named 'torch'" in done.stdout
    assert "network_torchscript    not served: torch is not installed" in served.logs("triton-wheel")


def test_image_is_small(served: Project) -> None:
    """The size added to the base image is below a bound; docs/deployment.md states it."""
    images = ("python:3.11-slim", f"{served.name}-triton-wheel")
    base, ours = (int(served.docker("image", "inspect", "--format", "{{.Size}}", image)) for image in images)
    assert ours - base < MOST_ADDED_BYTES


def test_clients_without_the_token_classify_and_read_statistics(
    served: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Admin APIs require the token."""
    monkeypatch.delenv("RESNET_ADMIN_TOKEN")
    with Client(served.grpc_url) as client:
        assert client.statistics(model="resnet50")
    with ModelControl(ClientConfig(served.grpc_url)) as control, pytest.raises(RequestError):
        control.index()
    with ModelControl(ClientConfig(served.grpc_url, admin_token=TOKEN)) as control:
        assert control.index()


def test_watchdog_replaces_a_dead_worker(served: Project, cat: bytes) -> None:
    """The container keeps running."""
    served.kill_worker("triton-wheel")
    with Client(served.grpc_url, timeout_s=60) as client:
        client.wait_until_ready(60)
        assert client.classify(cat).top.index in CAT_CLASSES
    assert "a worker of preprocess died" in served.logs("triton-wheel")
    served.wait_for_health("triton-wheel", "healthy", 60)


def test_prometheus_sees_it(served: Project, cat: bytes) -> None:
    """The profile for monitoring scrapes the server by its name in the project, and has read the rules."""
    served.run("up", "--build", "--wait", "--wait-timeout", "120", "prometheus")
    with Client(served.grpc_url) as client:
        client.classify(cat)
    url = f"http://127.0.0.1:{served.ports['PROMETHEUS_PORT']}/api/v1"
    query = urllib.parse.quote('nv_inference_request_success{job="triton", model="resnet50"} > 0')
    found: list[object] = []
    deadline_s = time.monotonic() + LONGEST_WAIT_S
    while not found and time.monotonic() < deadline_s:
        time.sleep(0.5)
        found = asked(f"{url}/query?query={query}")["result"]
    assert found
    rules = asked(f"{url}/rules")["groups"][0]["rules"]
    assert len(rules) >= 8
    assert {rule["health"] for rule in rules} <= {"ok", "unknown"}


def asked(url: str) -> dict[str, Any]:
    """Return the answer of Prometheus."""
    with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310  # http, on loopback
        data: dict[str, Any] = json.load(answer)["data"]
    return data


def test_two_workers_load_it_and_report(served: Project, tmp_path: Path) -> None:
    """The load test's profile leaves a report in its volume; it compares the client's and the server's counts."""
    services = ("loadtest", "loadtest-worker")
    done = served.run("up", "--build", "--scale=loadtest-worker=2", "--attach=loadtest", *services)
    state = served.docker("inspect", "--format", "{{.State.ExitCode}}", served.container("loadtest"))
    assert state.strip() == "0", done.stdout
    assert "valid" in done.stdout
    served.run("cp", "loadtest:/results/.", str(tmp_path))
    (written,) = tmp_path.glob("*.json")
    report = json.loads(written.read_text(encoding="utf-8"))
    assert report["whole"]["requests"] > 20
    assert report["whole"]["error_rate"] == 0


def test_another_build_does_nothing(served: Project) -> None:
    """A second build changes nothing."""
    assert "up to date" in served.run("run", "--rm", "--no-deps", "-T", "build").stdout


def test_service_stops_on_sigterm(served: Project) -> None:
    """The service ends on SIGTERM, before the engine would kill it."""
    served.run("stop", "--timeout", "50", "triton-wheel")
    state = served.docker(
        "inspect", "--format", "{{.State.ExitCode}} {{.State.OOMKilled}}", served.container("triton-wheel")
    )
    assert state.split() == ["0", "false"]
    assert subprocess.run(["docker", "volume", "ls", "-q"], capture_output=True, text=True, check=True).stdout
