"""``resnet-serve rollout`` on the real server, where nothing comes into service: each refusal has its sentence."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from resnet_client import Client
from resnet_serve import ServerConfig, TritonServer


def roll_out(server: TritonServer, *arguments: str, token: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command as an operator would, the server's token in the environment."""
    command = [sys.executable, "-m", "resnet_serve", "rollout", "--url", server.grpc_url, "--calls", "8"]
    environment = {**os.environ, "RESNET_ADMIN_TOKEN": server.admin_token if token is None else token}
    return subprocess.run(
        [*command, *arguments], env=environment, capture_output=True, text=True, timeout=200, check=False
    )


@pytest.mark.parametrize("token", ["", "wrong"])
def test_without_the_token_nothing_is_done(server: TritonServer, token: str) -> None:
    """Exit code 3, and the variable that is missing."""
    result = roll_out(server, "--model-version", "2", token=token)
    assert result.returncode == 3
    assert "set RESNET_ADMIN_TOKEN" in result.stderr


def test_a_version_that_is_nowhere_is_told(server: TritonServer, repository: Path) -> None:
    """Exit code 3, and how to make it."""
    result = roll_out(server, "--model-version", "2", "--repository", str(repository))
    assert result.returncode == 3
    assert "there is no version 2 of network_onnx, network_torchscript" in result.stderr
    assert "resnet-build --model-version 2" in result.stderr


def test_an_unknown_network_is_told(server: TritonServer) -> None:
    """Ensembles are none; those that there are are named."""
    result = roll_out(server, "--model-version", "2", "--model", "resnet50")
    assert result.returncode == 3
    assert "serves no network resnet50; it serves network_onnx, network_torchscript" in result.stderr


def test_what_is_in_service_stays(server: TritonServer) -> None:
    """Asking for the version in service is no mistake."""
    result = roll_out(server, "--model-version", "1")
    assert result.returncode == 0
    assert result.stdout.splitlines() == [
        "network_onnx: version 1 is in service already",
        "network_torchscript: version 1 is in service already",
    ]


@pytest.mark.parametrize("network", ["network_onnx", "network_torchscript"])
def test_a_truncated_file_is_refused(server: TritonServer, repository: Path, tmp_path: Path, network: str) -> None:
    """Exit code 1, the runtime's reason; version 1 answers as before, and no copy of it stays loaded."""
    whole = next((repository / network / "1").iterdir())
    (tmp_path / f"new{whole.suffix}").write_bytes(whole.read_bytes()[:1_000_000])
    result = roll_out(server, "--model-version", "2", "--artifact", str(tmp_path / f"new{whole.suffix}"))
    assert result.returncode == 1, result.stdout + result.stderr
    assert f"{network}: version 2 is refused: it cannot be loaded:" in result.stdout
    assert f"{network}: version 1 stays in service" in result.stdout
    with Client(server.grpc_url) as client:
        assert client.metadata(model=network)["model"]["versions"] == ["1"]
        assert client.is_ready()
        assert not client.is_ready(model=f"{network}_candidate")


def test_a_server_without_model_control_is_told(repository: Path, tmp_path: Path) -> None:
    """Exit code 3, and the flags that allow it; the folder stays where it is."""
    shutil.copytree(repository / "network_onnx", tmp_path / "network_onnx")
    config = tmp_path / "network_onnx/config.pbtxt"
    config.write_text(config.read_text().partition("model_warmup")[0] + 'backend: "onnxruntime"\n')
    with TritonServer(ServerConfig(tmp_path, port=0, triton_args=("--model-control-mode=none",))) as server:
        (tmp_path / "network_onnx/2").mkdir()
        shutil.copy2(tmp_path / "network_onnx/1/model.onnx", tmp_path / "network_onnx/2")
        result = roll_out(server, "--model-version", "2", "--repository", str(tmp_path))
    assert result.returncode == 3, result.stdout + result.stderr
    assert "start it with --model-control-mode=explicit --load-model=*" in result.stderr
    assert (tmp_path / "network_onnx/2").is_dir()
