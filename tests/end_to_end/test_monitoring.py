"""Dashboard and rules against the real server, scraped by the real Prometheus."""

from __future__ import annotations

import json
import math
import re
import shutil
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from resnet_client import Client
from resnet_serve import ServerConfig, TritonServer
from resnet_serve.ports import free_ports

ROOT = Path(__file__).resolve().parents[2]
DASHBOARD = ROOT / "deploy/grafana/dashboards/resnet50.json"
PROMETHEUS = ROOT / "deploy/prometheus"

# What only a machine with a GPU exports.
GPU_METRICS = {
    "nv_energy_consumption",
    "nv_gpu_memory_total_bytes",
    "nv_gpu_memory_used_bytes",
    "nv_gpu_power_limit",
    "nv_gpu_power_usage",
    "nv_gpu_utilization",
}
LONGEST_WAIT_S = 60.0


def queries() -> list[str]:
    """All queries of the dashboard, with Grafana's variables filled in for a Prometheus that scrapes often."""
    panels = json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]
    expressions = [target["expr"] for panel in panels for target in panel.get("targets", [])]
    return [text.replace("$__rate_interval", "10s").replace("$ensemble", "resnet50.*") for text in expressions]


def metrics_in(text: str) -> set[str]:
    """Names of Triton's metrics."""
    return set(re.findall(r"\bnv_[a-z_]+", text))


def get(url: str, **parameters: str) -> str:
    """Read a page of this machine."""
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with direct.open(f"{url}?{urllib.parse.urlencode(parameters)}", timeout=10) as answer:
        return answer.read().decode()


@pytest.fixture(scope="module")
def monitored(repository_copy) -> Iterator[TritonServer]:
    """A server with the flags that docs/monitoring.md shows."""
    for model in ("resnet50", "preprocess", "network_onnx"):
        repository_copy.add(model)
    page = (ROOT / "docs/monitoring.md").read_text(encoding="utf-8")
    flags = re.findall(r"--metrics-config=\S+", page)
    assert len(flags) == 2
    with TritonServer(ServerConfig(repository_copy.folder, port=0, triton_args=tuple(flags))) as server:
        # Triton opens it a moment after it reports that it is ready.
        wait_until(lambda: is_open(server.metrics_url), lambda: "there are no metrics")
        yield server


def is_open(url: str) -> bool:
    """Whether there is a page."""
    try:
        return bool(get(url))
    except OSError:
        return False


@pytest.fixture(scope="module")
def prometheus(monitored: TritonServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The real Prometheus with our configuration, pointed at the server and scraping five times a second; its URL."""
    if shutil.which("prometheus") is None:
        pytest.skip("prometheus is not installed (Debian: apt-get install prometheus)")
    folder = tmp_path_factory.mktemp("prometheus")
    shutil.copy(PROMETHEUS / "rules.yml", folder)
    config = (PROMETHEUS / "prometheus.yml").read_text(encoding="utf-8")
    target = urllib.parse.urlsplit(monitored.metrics_url).netloc
    config = config.replace("triton:8002", target).replace("interval: 5s", "interval: 200ms").replace("15s", "200ms")
    assert target in config
    (folder / "prometheus.yml").write_text(config)
    (port,) = free_ports("127.0.0.1", 1)
    command = [
        "prometheus",
        f"--config.file={folder}/prometheus.yml",
        f"--storage.tsdb.path={folder}/data",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with (folder / "log").open("w") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        url = f"http://127.0.0.1:{port}"
        try:
            wait_until(lambda: is_ready(url), (folder / "log").read_text)
            yield url
        finally:
            process.terminate()


def is_ready(url: str) -> bool:
    """Whether Prometheus has read its configuration."""
    try:
        return "Ready" in get(f"{url}/-/ready")
    except urllib.error.URLError:
        return False


def wait_until(condition, describe, client: Client | None = None, image: Path | None = None) -> None:
    """Wait for something to come true, while the client, if there is one, classifies the image again and again."""
    deadline_s = time.monotonic() + LONGEST_WAIT_S
    while not condition():
        assert time.monotonic() < deadline_s, describe()
        if client:
            client.classify(image)
        else:
            time.sleep(0.2)


def ask(url: str, query: str) -> list[float]:
    """The values that a query has now; NaN is none."""
    values = [
        float(found["value"][1]) for found in json.loads(get(f"{url}/api/v1/query", query=query))["data"]["result"]
    ]
    return [value for value in values if not math.isnan(value)]


def rules(url: str) -> list[dict]:
    """Our alert rules, as Prometheus sees them now."""
    return json.loads(get(f"{url}/api/v1/rules"))["data"]["groups"][0]["rules"]


def test_server_exports_every_metric_that_is_named(monitored: TritonServer) -> None:
    """Dashboard and rules name no metric that the server does not have, from the start and without any request."""
    named = metrics_in(DASHBOARD.read_text(encoding="utf-8") + (PROMETHEUS / "rules.yml").read_text(encoding="utf-8"))
    page = get(monitored.metrics_url)
    assert named >= GPU_METRICS >= named - metrics_in(page)
    assert 'nv_inference_request_success{model="resnet50"' in page


def test_queries_return_data_and_rules_do_not_fire(
    monitored: TritonServer, prometheus: str, images: dict[str, Path]
) -> None:
    """While images are classified, no panel stays empty, except those of the GPU on a machine without one."""
    on_cpu = [query for query in queries() if not metrics_in(query) & GPU_METRICS]
    assert len(queries()) - len(on_cpu) == 6
    with Client(monitored.grpc_url) as client:
        empty = lambda: [query for query in on_cpu if not ask(prometheus, query)]  # noqa: E731
        wait_until(lambda: not empty(), empty, client, images["cat"])
        wait_until(lambda: all(rule["health"] == "ok" for rule in rules(prometheus)), lambda: rules(prometheus))
    assert [rule["name"] for rule in rules(prometheus) if rule["state"] == "firing"] == []
