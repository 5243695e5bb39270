"""Examples are run as a reader runs them, in a process of their own, with the server in ``RESNET_URL``."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from resnet_serve import TritonServer

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@pytest.fixture
def example(server: TritonServer, tmp_path: Path) -> Callable[..., str]:
    """Run an example that succeeds, with the test's server; returns what it printed."""

    def run(name: str, *arguments: object, url: str = server.grpc_url) -> str:
        command = [sys.executable, str(EXAMPLES / name), *map(str, arguments)]
        environment = {**os.environ, "RESNET_URL": url}
        result = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=200, check=False
        )
        assert result.returncode == 0, result.stderr
        return result.stdout

    return run
