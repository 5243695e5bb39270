"""The planner against measured fleets: stubs of known speed, asked through the client as callers would."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from resnet_loadtest.report import document
from resnet_loadtest.sizing.plan import Demand, make

pytestmark = [pytest.mark.fleet, pytest.mark.timeout(900)]

STUB = Path(__file__).parents[2] / "unit/loadtest/stub_server.py"
CAPACITY = 40.0
ANSWER_S = 0.03  # of which 1 / CAPACITY occupies the server
SLO = "p90<=120ms"


@contextlib.contextmanager
def stubs(count: int) -> Iterator[str]:
    """Servers that answer 40 requests a second each, one after the other; gives their URLs as one."""
    with contextlib.ExitStack() as ending:
        urls = []
        for _ in range(count):
            command = [sys.executable, STUB, "--answer-s", f"{ANSWER_S:g}", "--capacity", f"{CAPACITY:g}"]
            process = ending.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
            ending.callback(process.kill)
            urls.append(f"http://127.0.0.1:{int(process.stdout.readline())}")
        yield ",".join(urls)


def measure(folder: Path, name: str, url: str, *arguments: str) -> Path:
    """Run the load test; returns its report."""
    common = ["--mix", "ClassifyHttp", "--images", str(folder), "--out", str(folder), "--name", name, "--url", url]
    command = [sys.executable, "-m", "resnet_loadtest", "run", *common, "--metrics-url", "none", *arguments]
    subprocess.run(command, check=False, timeout=600, stdout=subprocess.DEVNULL)
    return folder / f"{name}.json"


@pytest.mark.parametrize("servers", [2, 3])
def test_the_prediction_for_several_servers_is_within_15_percent(tmp_path: Path, servers: int) -> None:
    """One server's curve, then the same load per server on several, dealt in turn by one caller."""
    Image.new("RGB", (32, 32), (90, 120, 40)).save(tmp_path / "plain.jpg")
    with stubs(1) as url:
        one = measure(tmp_path, "one", url, "--profile", "steps", "--rate", "36/s", "--duration", "100s")
    rate = servers * 0.8 * CAPACITY
    plan = make(document.read(one), Demand(rate, SLO, spare=0, in_turn=True))
    with stubs(servers) as urls:
        report = measure(tmp_path, "fleet", urls, "--rate", f"{rate}/s", "--duration", "40s")
    measured_s = json.loads(report.read_text())["whole"]["response_s"]["p90"]["value"]
    assert abs(plan.latency_s(servers) / measured_s - 1) < 0.15
