"""The proxy of docs/deployment.md, as nginx runs it, and proxies of the environment, which are not used."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import trustme
from resnet_client import AsyncClient, Client, ClientConfig
from resnet_client.admin import ModelControl
from resnet_client.metrics import fetch
from resnet_serve import TritonServer
from resnet_serve.ports import free_ports

PAGE = Path(__file__).resolve().parents[2] / "docs/deployment.md"
LONGEST_WAIT_S = 30.0


@pytest.fixture(scope="module")
def proxy(server: TritonServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, Path]]:
    """Nginx with the page's block before the server: its port, and the authority of its certificate."""
    if shutil.which("nginx") is None:
        pytest.skip("nginx is not installed (Debian: apt-get install nginx-light)")
    folder = tmp_path_factory.mktemp("nginx")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    issued = authority.issue_cert("localhost")
    issued.private_key_and_cert_chain_pem.write_to_path(folder / "server.pem")
    shutil.copy(folder / "server.pem", folder / "server.key")
    (port,) = free_ports("127.0.0.1", 1)
    (block,) = re.findall(r"^```nginx\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    changes = {
        "listen 8443": f"listen 127.0.0.1:{port}",
        "/etc/nginx": str(folder),
        "127.0.0.1:8001": urlsplit(server.grpc_url).netloc,
        "127.0.0.1:8000": urlsplit(server.http_url).netloc,
    }
    for shown, here in changes.items():
        assert shown in block
        block = block.replace(shown, here)
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    temporary = "\n".join(f"{kind}_temp_path {folder}/{kind};" for kind in kinds)
    head = "user root; daemon off; events {}"  # root, where the tests run as root: their folders are closed to others
    (folder / "nginx.conf").write_text(f"{head} http {{ access_log off; {temporary}\n{block} }}")
    command = ["nginx", "-c", f"{folder}/nginx.conf", "-e", f"{folder}/error.log", "-g", f"pid {folder}/nginx.pid;"]
    with subprocess.Popen(command) as process:
        try:
            yield port, folder / "ca.pem"
        finally:
            process.terminate()


@pytest.mark.parametrize("scheme", ["grpcs", "https"])
def test_proxy_passes_images_on_encrypted(proxy: tuple[int, Path], images: dict[str, Path], scheme: str) -> None:
    """One port serves both protocols; the certificate is verified."""
    port, authority = proxy
    with Client(f"{scheme}://localhost:{port}", ca_certificate=authority) as client:
        client.wait_until_ready(LONGEST_WAIT_S)
        assert client.classify(images["cat"]).top.index in range(281, 288)


@pytest.fixture
def unreachable_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Variables of proxies that do not answer, as a user's shell may have them."""
    for name in ("http_proxy", "https_proxy", "grpc_proxy", "all_proxy"):
        for spelling in (name, name.upper()):
            monkeypatch.setenv(spelling, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY", "no_grpc_proxy"):
        monkeypatch.delenv(name, raising=False)


async def _classify(url: str, image: Path) -> int:
    async with AsyncClient(url, max_attempts=1) as client:
        return (await client.classify(image)).top.index


@pytest.mark.usefixtures("unreachable_proxies")
def test_clients_ignore_proxies_of_the_environment(server: TritonServer, images: dict[str, Path]) -> None:
    """Both protocols, blocking and asyncio; model control and metrics, too."""
    for url in (server.grpc_url, server.http_url):
        with Client(url, max_attempts=1) as client:
            assert client.classify(images["cat"]).top.index in range(281, 288)
        assert asyncio.run(_classify(url, images["cat"])) in range(281, 288)
    with ModelControl(ClientConfig.resolve({"url": server.grpc_url})) as control:
        assert control.index()
    assert "nv_inference_count" in fetch(server.metrics_url)


@pytest.mark.usefixtures("unreachable_proxies")
def test_load_test_ignores_proxies_of_the_environment(server: TritonServer, tmp_path: Path) -> None:
    """It reaches the server, its statistics and its metrics."""
    options = ["--rate=5/s", "--duration=1s", "--warm-up-s=0", "--out=."]
    command = [sys.executable, "-m", "resnet_loadtest", "run", *options]
    environment = {**os.environ, "RESNET_URL": server.grpc_url, "RESNET_METRICS_URL": server.metrics_url}
    result = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=LONGEST_WAIT_S, check=False
    )
    (report,) = tmp_path.rglob("*.json")
    readings = json.loads(report.read_text())["raw"]["server"]["readings"]
    assert readings, result.stdout
