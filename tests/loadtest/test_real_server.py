"""Whole runs against the real Triton."""

import pytest

from .conftest import loadtest

pytestmark = pytest.mark.load


@pytest.fixture
def loadtest_at(server, tmp_path):
    """Run a load test on the server."""
    urls = "--url", server.grpc_url, "--http-url", server.http_url, "--metrics-url", server.metrics_url
    return lambda *arguments: loadtest(tmp_path, *urls, *arguments)


def test_run_with_two_workers_counts_every_operation_like_the_server(loadtest_at, free_port):
    """Images, features, and pixels that go past the ensemble, over both protocols; no image is missing."""
    mix = "ClassifyGrpc,ClassifyHttp,EmbedHttp,PixelsGrpc"
    workers = ["--processes", "2", "--master-port", str(free_port)]
    code, output, document = loadtest_at("--users", "4", "-t", "4s", "--mix", mix, *workers)
    assert code == 0, output
    assert document["warnings"] == []
    assert document["whole"]["error_rate"] == 0
    assert document["raw"]["server"]["steps"].keys() == {"resnet50", "preprocess", "network_onnx"}
    assert {each["worker"] for each in document["raw"]["generator"]} == {0, 1}


def test_run_in_open_loop_reports_both_sides(loadtest_at):
    """Batches, queue and compute, processor and memory; the objective is met; every step counts every image."""
    code, output, document = loadtest_at("--rate", "3", "-t", "4s", "--slo", "p50<=20s,error_rate<=0%")
    assert (code, document["verdict"]) == (0, "PASS"), output
    steps = document["raw"]["server"]["steps"]
    assert {step["succeeded"] for step in steps.values()} == {document["raw"]["samples"]["rows"]}
    network = steps["network_onnx"]
    assert sum(int(size) * count for size, count in network["batch_sizes"].items()) == network["images"]
    assert network["compute_s"] > 0
    readings = document["raw"]["server"]["readings"]
    assert readings
    assert all("nv_cpu_utilization" in reading["values"] for reading in readings)
    assert document["bottleneck"]
