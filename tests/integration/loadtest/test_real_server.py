"""Whole runs against the real Triton."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.load

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def loadtest(server, tmp_path):
    """Run ``resnet-loadtest run`` on the real server; gives exit code, output and report."""

    def run(*arguments):
        urls = ["--url", server.grpc_url, "--http-url", server.http_url, "--metrics-url", server.metrics_url]
        finished = subprocess.run(
            [sys.executable, "-m", "resnet_loadtest", "run", *urls, "--out", tmp_path, "--name", "run", *arguments],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        output = finished.stdout + finished.stderr
        report = tmp_path / "run.json"
        assert report.exists(), output
        return finished.returncode, output, json.loads(report.read_text())

    return run


def steps_of(document):
    """Model → what it did."""
    return document["raw"]["server"]["steps"]


def test_two_workers_and_two_protocols_count_like_the_server(loadtest, free_port):
    """Every sample of both workers is an answer that the ensemble and each of its steps counted."""
    code, output, document = loadtest(
        "--users", "4", "--duration", "6s", "--mix", "Mixed", "--processes", "2", "--master-port", str(free_port)
    )  # fmt: skip
    steps = steps_of(document)
    assert code == 0, output
    assert document["whole"]["error_rate"] == 0
    assert {step["succeeded"] for step in steps.values()} == {document["raw"]["samples"]["rows"]}
    assert steps.keys() == {"resnet50", "preprocess", "network_onnx"}


def test_open_loop_reports_both_sides(loadtest):
    """Batches, queue and compute, processor and memory; the objective is met."""
    code, output, document = loadtest("--rate", "3", "--duration", "6s", "--slo", "p50<=20s,error_rate<=0%")
    assert (code, document["verdict"]) == (0, "PASS"), output
    network = steps_of(document)["network_onnx"]
    assert sum(int(size) * count for size, count in network["batch_sizes"].items()) == network["images"]
    assert network["compute_s"] > 0
    readings = document["raw"]["server"]["readings"]
    assert all("nv_cpu_utilization" in reading["values"] for reading in readings)
    assert document["bottleneck"]


@pytest.mark.parametrize("mix", ["EmbedHttp,BatchGrpc", "PixelsGrpc,ClassifyHttp"])
def test_every_operation_is_counted_by_images(loadtest, mix):
    """Features, batches, and pixels that go past the ensemble to its network."""
    code, output, document = loadtest("--users", "2", "--duration", "4s", "--mix", mix, "--batch", "3")
    assert code == 0, output
    assert document["whole"]["error_rate"] == 0
    assert document["warnings"] == []


def test_plain_locust_runs_and_ends(server, free_port):
    """Headless, users chosen by name; the process ends by itself."""
    command = [
        sys.executable, "-m", "locust", "-f", ROOT / "loadtest" / "locustfile.py", "--headless", "-u", "3", "-r", "3",
        "-t", "4s", "--url", server.grpc_url, "--http-url", server.http_url, "Mixed", "PixelsGrpc",
    ]  # fmt: skip
    environment = os.environ | {"LOCUST_WEB_PORT": str(free_port)}
    finished = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment, check=False)
    output = finished.stdout + finished.stderr
    assert finished.returncode == 0, output
    assert "0(0.00%)" in output
    assert "pixels" in output
