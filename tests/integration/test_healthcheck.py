"""The container's healthcheck: an answer counts, a flag does not."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from resnet_serve import ServerConfig, TritonServer

SCRIPT = Path(__file__).resolve().parents[2] / "deploy/compose/healthcheck.py"


def check(url: str) -> subprocess.CompletedProcess[str]:
    """Run it as the container does."""
    command = [sys.executable, str(SCRIPT), url]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_an_answering_server_is_healthy(server: TritonServer) -> None:
    """Exit code 0, silently."""
    result = check(server.http_url)
    assert (result.returncode, result.stdout) == (0, ""), result.stderr


def test_a_server_without_the_ensemble_is_not(repository: Path, tmp_path: Path) -> None:
    """A live and ready server that does not serve ``resnet50`` is unhealthy; so is none at all."""
    shutil.copytree(repository / "preprocess", tmp_path / "preprocess")
    with TritonServer(ServerConfig(tmp_path, port=0)) as server:
        url = server.http_url
        assert check(url).returncode == 1
    assert check(url).returncode == 1
