"""The benchmarks' requests give the client's results, and the scripts that docs name run."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from resnet_serve import TritonServer

from benchmarks import senders
from benchmarks.closed_loop import responses

ROOT = Path(__file__).resolve().parents[2]


def run(module: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a script from the checkout; wide enough for its tables."""
    command = [sys.executable, "-m", f"benchmarks.{module}", *map(str, arguments)]
    environment = {**os.environ, "COLUMNS": "200", "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600, check=False)


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


# Fast enough for a test, which needs no meaningful numbers.
TINY = ("--device", "cpu", "--batches", 1, 2, "--callers", 2, "--processes", 1, "--seconds", 0.2)


@pytest.mark.load
@pytest.mark.timeout(900)
def test_gpu_measurements_run_on_a_cpu(repository: Path) -> None:
    """Each has a result there, and what a machine or repository lacks is one row with the reason."""
    _, _, *measured = rows(run("gpu", "--repository", repository, *TINY).stdout, "|")
    assert {check for check, *_ in measured} == {f"V{number}" for number in range(1, 7)}
    lacking = ("CUDA graphs need a GPU", "nvImageCodec is missing", "unknown model: 'resnet50_fp16'")
    for _, what, result, _ in measured:
        missing = result.startswith("not run: ") and any(reason in result.replace("\\", "") for reason in lacking)
        assert missing or re.match(r"[\d.,]+ |pending", result), (what, result)
    (counters,) = (result for check, _, result, _ in measured if check == "V2")
    rises = re.findall(r"request_\w+: (\d+) → (\d+)", counters.replace(",", ""))[-2:]
    assert [int(before) < int(during) for before, during in rises] == [True, True]


def test_gpu_measurements_use_a_running_server(server: TritonServer) -> None:
    """A server that refuses is a row with its answer."""
    done = run("gpu", "--only", "V6", "--port", server.http_url.rpartition(":")[2], *TINY)
    default, fp16 = (result for _, _, result, _ in rows(done.stdout, "|")[2:])
    assert re.fullmatch(r"\d+ images/s; p50 [\d.,]+ ms", default)
    assert fp16.startswith("not run: the server returned 4")


def test_gpu_measurements_without_a_gpu_name_the_option(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The one that needs none."""
    from benchmarks.gpu.__main__ import main

    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["gpu"])
    assert main() == 1
    assert "--device cpu" in capsys.readouterr().err


@pytest.mark.load
def test_run_measures_this_server_and_its_limit(repository: Path) -> None:
    """With one server and shortened, `make bench` prints what the page is made of."""
    command = ["-m", "benchmarks", "run", "--length", "quick", "--repository", str(repository)]
    command += ["--only", "servers", "decoding", "--servers", "resnet50"]
    ended = subprocess.run([sys.executable, *command], cwd=ROOT, stdout=subprocess.PIPE, timeout=240, check=True)
    measured = json.loads(ended.stdout)
    names = [(each["name"], each["protocol"], each["callers"]) for each in measured["servers"]["measurements"]]
    ways = [("in process", ""), ("resnet50", "HTTP"), ("resnet50", "gRPC")]
    assert names == [(name, protocol, callers) for name, protocol in ways for callers in (16, 1)]
    assert all(each["images_per_s"] > 0 for each in measured["servers"]["measurements"])
    assert all(each["p50_ms"] > 0 for each in measured["servers"]["measurements"] if each["callers"] == 1)
    assert measured["servers"]["starts"][0]["memory_mib"] > 100
    assert len(measured["decoding"]) == 10
