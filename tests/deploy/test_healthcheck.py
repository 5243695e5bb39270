"""The container's healthcheck: an answer counts, a flag does not."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from resnet_client import Client
from resnet_serve import ALL_MODELS, ServerConfig, TritonServer
from stub import Handler, serving

SCRIPT = Path(__file__).resolve().parents[2] / "deploy/compose/healthcheck.py"
OVERLOADED = "in ensemble 'resnet50', [overload] 64 images are waiting already; retry later"


class Triton(Handler):
    """Is ready, and gives each image the response that the test has set."""

    def do_GET(self) -> None:  # noqa: N802  # the name in http.server
        """Be ready."""
        self.respond()

    def do_POST(self) -> None:  # noqa: N802  # likewise
        """Answer an image."""
        self.received()
        self.respond(self.server.answer, self.server.status)


@pytest.fixture
def stub() -> Iterator[Any]:
    """One that answers, unless the test sets another response."""
    with serving(Triton) as server:
        server.status, server.answer = 200, b'{"outputs": [{"data": ["0.5:281:tabby"]}]}'
        yield server


def check(url: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run it as the container does."""
    command = [sys.executable, str(SCRIPT), url]
    variables = {**os.environ, **environment}
    return subprocess.run(command, env=variables, capture_output=True, text=True, timeout=60, check=False)


def test_server_that_answers_is_healthy(server: TritonServer) -> None:
    """Exit code 0, silently."""
    result = check(server.http_url)
    assert (result.returncode, result.stdout) == (0, ""), result.stderr


def test_server_without_the_ensemble_is_unhealthy(plain_repository: Path, tmp_path: Path) -> None:
    """A live and ready server that does not serve ``resnet50`` is; so is none at all."""
    shutil.copytree(plain_repository / "preprocess", tmp_path / "preprocess")
    with TritonServer(ServerConfig(tmp_path, port=0)) as server:
        url = server.http_url
        assert check(url).returncode == 1
    assert check(url).returncode == 1


def test_server_with_another_model_that_failed_is_healthy(repository_copy: Any) -> None:
    """Triton reports that the server is not ready, but the default model answers."""
    for model in ("preprocess", "network_onnx", "resnet50"):
        repository_copy.add(model)
    repository_copy.add("network_onnx", "network_2")
    (repository_copy.folder / "network_2/1/model.onnx").unlink()
    with TritonServer(ServerConfig(repository_copy.folder, models=ALL_MODELS, port=0)) as server:
        assert list(server.failed_models) == ["network_2"]
        with Client(server.grpc_url) as client:
            assert not client.health().server_ready
        result = check(server.http_url)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize(
    ("status", "error", "code"),
    [
        (503, OVERLOADED, 0),
        (503, "in ensemble 'resnet50', request for unavailable model", 1),
        (500, OVERLOADED, 1),
        (500, "Stub process 'preprocess_0_0' is not healthy.", 1),
    ],
)
def test_refusal_under_overload_is_an_answer(stub: Any, status: int, error: str, code: int) -> None:
    """A server that has too much to do is not taken out of service; one that fails is."""
    stub.status, stub.answer = status, json.dumps({"error": error}).encode()
    assert check(stub.url).returncode == code


def test_request_goes_past_proxies(stub: Any) -> None:
    """Variables of a proxy, and an exception for the loopback that urllib does not understand, change nothing."""
    assert check(stub.url, http_proxy="http://127.0.0.1:1", no_proxy="127.0.0.0/8").returncode == 0
