"""The benchmark's requests, made without the client, ask for what the client asks for."""

from __future__ import annotations

from pathlib import Path

import pytest
from resnet_serve import TritonServer

from benchmarks import gpu_network, in_turns, many_callers, triton_requests
from benchmarks.closed_loop import answers
from benchmarks.doors import ClientDoor, GrpcDoor, HttpDoor


def test_all_doors_give_the_same_classes(server: TritonServer, photos: dict[str, Path]) -> None:
    """gRPC, HTTP and the client agree on every photo, so that one check of answers holds for all."""
    encoded = [path.read_bytes() for path in photos.values()]
    grpc_port, http_port = (int(url.rpartition(":")[2]) for url in (server.grpc_url, server.http_url))
    over_client = [int(answer) for answer in answers(ClientDoor(server.grpc_url, "resnet50", encoded))]
    over_grpc = answers(GrpcDoor(grpc_port, [triton_requests.over_grpc("resnet50", photo) for photo in encoded]))
    over_http = answers(HttpDoor(http_port, [triton_requests.over_http("resnet50", photo) for photo in encoded]))
    assert over_client == [triton_requests.top1_of_grpc(answer) for answer in over_grpc]
    assert over_client == [triton_requests.top1_of_http(answer) for answer in over_http]


def test_settings_of_the_gpu_are_measured_on_the_networks_of_a_repository(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a GPU it says what is missing; told to use the CPU it measures the same networks there."""
    assert gpu_network.main(["--repository", str(repository)]) == 1
    assert "onnxruntime-gpu" in capsys.readouterr().err
    assert gpu_network.main(["--repository", str(repository), "--cpu", "--repeats", "1"]) == 0
    assert "network_on" in capsys.readouterr().out


def test_callers_of_several_processes_are_answered(server: TritonServer, capsys: pytest.CaptureFixture[str]) -> None:
    """Doors get photos and networks pixels, and a server that refuses is told."""
    port = server.http_url.rpartition(":")[2]
    few = ["--port", port, "--callers", "3", "--processes", "2", "--seconds", "0.5"]
    assert many_callers.main(["resnet50", "network_onnx", *few]) == 0
    rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()[1:]]
    assert [row[:2] for row in rows] == [["resnet50", "3"], ["network_onnx", "3"]]
    assert all(0 < float(p50) <= float(p99) and float(rate) > 0 for _, _, rate, p50, p99 in rows)
    assert many_callers.main(["nobody", *few]) == 1
    assert "nobody, 3 callers: the server answered 4" in capsys.readouterr().err


def test_repositories_are_called_in_turns(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each number of callers has a line for each repository, and the first is what the others are compared with."""
    few = ["--callers", "1", "2", "--rounds", "2", "--turn-s", "0.3"]
    assert in_turns.main([str(repository), str(repository), *few]) == 0
    rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()[1:]]
    assert [row[:2] for row in rows] == [[callers, str(repository)] for callers in ("1", "1", "2", "2")]
    assert all(float(rate) > 0 and 0 < float(p50) <= float(p95) for _, _, rate, _, p50, p95 in rows)
    assert [row[3] for row in rows[::2]] == ["1.00 [1.00, 1.00]"] * 2
    assert all(low <= middle <= high for low, middle, high in map(_numbers, [row[3] for row in rows]))


def _numbers(share: str) -> list[float]:
    """Lowest, middle and highest of ``middle [lowest, highest]``."""
    middle, low, high = (float(part.strip("[],")) for part in share.split())
    return [low, middle, high]
