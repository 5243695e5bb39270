"""The benchmarks' requests give the client's results, and the scripts that docs name run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from resnet_serve import TritonServer

from benchmarks import senders
from benchmarks.closed_loop import responses

ROOT = Path(__file__).resolve().parents[2]


def run(module: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a script from the checkout; wide enough for its tables."""
    command = [sys.executable, "-m", f"benchmarks.{module}", *map(str, arguments)]
    environment = {**os.environ, "COLUMNS": "200"}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240, check=False)


def rows(output: str, separator: str) -> list[list[str]]:
    """The cells of a printed table, without the rules."""
    return [[cell.strip() for cell in line.split(separator)[1:-1]] for line in output.splitlines() if separator in line]


def test_senders_get_the_same_classes(server: TritonServer, images: dict[str, Path]) -> None:
    """gRPC, HTTP and the client agree on every image, so that one check of the classes holds for all."""
    encoded = [path.read_bytes() for path in images.values()]
    grpc_port, http_port = (int(url.rpartition(":")[2]) for url in (server.grpc_url, server.http_url))
    client = senders.ClientSender(server.grpc_url, "resnet50", encoded)
    grpc = senders.GrpcSender(grpc_port, [senders.over_grpc("resnet50", image) for image in encoded])
    http = senders.HttpSender(http_port, [senders.over_http("resnet50", image) for image in encoded])
    expected = [int(response) for response in responses(client)]
    assert expected == [senders.top1_of_grpc(response) for response in responses(grpc)]
    assert expected == [senders.top1_of_http(response) for response in responses(http)]


@pytest.mark.load
def test_gpu_settings_are_measured_on_the_networks_of_a_repository(repository: Path) -> None:
    """Without a GPU the script names what is missing; with --cpu it measures the same networks there."""
    without = run("gpu", "settings", "--repository", repository)
    assert without.returncode == 1
    assert "onnxruntime-gpu" in without.stderr
    measured = run("gpu", "settings", "--repository", repository, "--cpu", "--repeats", 1, "--sizes", 1, 2)
    (row,) = rows(measured.stdout, "│")
    assert row[:2] == ["network_onnx", "CPU"]
    assert all(float(speed) > 0 for speed in row[2:4])


def test_gpu_callers_of_several_processes_are_answered(server: TritonServer) -> None:
    """Ensembles get images and networks pixels, and the error of a server that refuses is shown."""
    few = ["--port", server.http_url.rpartition(":")[2], "--callers", 3, "--processes", 2, "--seconds", 0.5]
    measured = rows(run("gpu", "callers", "resnet50", "network_onnx", *few).stdout, "│")
    assert [row[:2] for row in measured] == [["resnet50", "3"], ["network_onnx", "3"]]
    assert all(0 < float(p50) <= float(p99) and float(rate) > 0 for _, _, rate, p50, p99 in measured)
    refused = run("gpu", "callers", "missing", *few)
    assert refused.returncode == 1
    assert "missing, 3 callers: the server returned 4" in refused.stderr


@pytest.mark.load
def test_preprocessing_is_timed_and_compared(repository: Path, images: dict[str, Path], tmp_path: Path) -> None:
    """A row for each format and way, and pixels near torchvision's; the network agrees."""
    for name in ("cat", "coffee"):
        Image.open(images[name]).convert("RGB").save(tmp_path / f"{name}.jpg")
    common = ["--images", tmp_path, "--every", 1, "--size", "0.2"]
    _, _, *timed = rows(run("preprocessing", "speed", *common, "--rounds", 1).stdout, "|")
    assert [(row[1], row[3]) for row in timed] == [
        (form, way) for form in ("baseline", "progressive") for way in ("as served", "whole image")
    ]
    assert all(float(row[5]) < 1 for row in timed)
    network = repository / "network_onnx/1/model.onnx"
    _, _, (*_, count, same, _, _) = rows(run("preprocessing", "agreement", *common, "--network", network).stdout, "|")
    assert (count, same) == ("2", "100.0%")
