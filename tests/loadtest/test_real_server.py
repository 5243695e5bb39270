"""Whole runs against the real Triton."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.load

LOCUSTFILE = Path(__file__).resolve().parents[2] / "loadtest/locustfile.py"


@pytest.fixture
def urls(server):
    """The options that name the server."""
    return ["--url", server.grpc_url, "--http-url", server.http_url, "--metrics-url", server.metrics_url]


def steps_of(document):
    """Model → what it did."""
    return document["raw"]["server"]["steps"]


def test_run_with_two_workers_and_two_protocols_counts_like_the_server(urls, loadtest, free_port):
    """Every sample of both workers is a response that the ensemble and each of its steps counted."""
    code, output, document = loadtest(
        *urls, "--users", "4", "--duration", "4s", "--mix", "Mixed", "--processes", "2", "--master-port", str(free_port)
    )
    steps = steps_of(document)
    assert code == 0, output
    assert document["whole"]["error_rate"] == 0
    assert {step["succeeded"] for step in steps.values()} == {document["raw"]["samples"]["rows"]}
    assert steps.keys() == {"resnet50", "preprocess", "network_onnx"}
    assert {each["worker"] for each in document["raw"]["generator"]} == {0, 1}


def test_run_in_open_loop_reports_both_sides(urls, loadtest):
    """Batches, queue and compute, processor and memory; the objective is met."""
    code, output, document = loadtest(*urls, "--rate", "3", "--duration", "5s", "--slo", "p50<=20s,error_rate<=0%")
    assert (code, document["verdict"]) == (0, "PASS"), output
    network = steps_of(document)["network_onnx"]
    assert sum(int(size) * count for size, count in network["batch_sizes"].items()) == network["images"]
    assert network["compute_s"] > 0
    readings = document["raw"]["server"]["readings"]
    assert readings
    assert all("nv_cpu_utilization" in reading["values"] for reading in readings)
    assert document["bottleneck"]


@pytest.mark.parametrize("mix", ["EmbedHttp,BatchGrpc", "PixelsGrpc,ClassifyHttp"])
def test_run_counts_every_operation_by_images(urls, loadtest, mix):
    """Features, batches, and pixels that go past the ensemble to its network."""
    code, output, document = loadtest(*urls, "--users", "2", "--duration", "3s", "--mix", mix, "--batch", "3")
    assert code == 0, output
    assert document["whole"]["error_rate"] == 0
    assert document["warnings"] == []


def test_locustfile_runs_headless_and_ends(server, free_port):
    """Users are chosen by name; the process ends by itself."""
    command = [
        sys.executable, "-m", "locust", "-f", LOCUSTFILE, "--headless", "-u", "3", "-r", "3",
        "-t", "3s", "--host", server.grpc_url, "--http-url", server.http_url, "Mixed", "PixelsGrpc",
    ]  # fmt: skip
    environment = os.environ | {"LOCUST_WEB_PORT": str(free_port)}
    finished = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment, check=False)
    output = finished.stdout + finished.stderr
    assert finished.returncode == 0, output
    assert "0(0.00%)" in output
    assert "pixels" in output
