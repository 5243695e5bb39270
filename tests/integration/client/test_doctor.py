"""The doctor against the real server: silent where all is well, and it finds faults that are really there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from resnet_serve import ServerConfig, TritonServer
from resnet_serve.config import APIS
from tritonclient import http as triton
from tritonclient.grpc import model_config_pb2 as pb

# What other tests do to the server that all share: they overload it on purpose, and send what is no photo.
OF_OTHER_TESTS = ("mostly-waiting", "never-batched", "many-failures")

RAISES = """
class TritonPythonModel:
    def execute(self, requests):
        raise RuntimeError("the worker has lost its mind")
"""

FIRST_ROW_ONLY = """
import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        pixels = pb_utils.Tensor("PIXELS__0", np.zeros((1, 224, 224, 3), np.uint8))
        return [pb_utils.InferenceResponse([pixels]) for _ in requests]
"""


def doctor(url: str, *options: str, token: str = "") -> tuple[int, dict, str]:
    """Run the command as a person would; returns exit code, report and standard error."""
    environment = {**os.environ, "RESNET_ADMIN_TOKEN": token}
    command = [sys.executable, "-m", "resnet_client", "doctor", url, "--json", *options]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    return result.returncode, json.loads(result.stdout) if result.stdout else {}, result.stderr


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_silent_on_the_default_set_up(server: TritonServer, protocol: str) -> None:
    """With the token, everything is checked and nothing found, over both protocols."""
    ignored = [option for check in OF_OTHER_TESTS for option in ("--ignore", check)]
    url = getattr(server, f"{protocol}_url")
    code, report, errors = doctor(url, "--metrics-url", server.metrics_url, *ignored, token=server.admin_token)
    assert (code, report["findings"], errors) == (0, [], "")
    assert set(report["unchecked"]) == set(OF_OTHER_TESTS)
    assert len(report["clean"]) >= 30


def test_silent_on_a_network(server: TritonServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked with pixels, it does as well; a photo of 8 MiB is not for it. The variable says where the metrics are."""
    monkeypatch.setenv("RESNET_METRICS_URL", server.metrics_url)
    ignored = [option for check in OF_OTHER_TESTS for option in ("--ignore", check)]
    code, report, _ = doctor(server.grpc_url, "--model", "network_onnx", *ignored, token=server.admin_token)
    assert (code, report["findings"]) == (0, [])
    assert set(report["unchecked"]) == {*OF_OTHER_TESTS, "large-photos-fail"}


def test_silent_without_the_token(server: TritonServer) -> None:
    """What is closed to strangers is not checked, and said so; the rest is checked, and nothing found."""
    code, report, _ = doctor(server.grpc_url, "--metrics-url", server.metrics_url)
    assert (code, report["findings"]) == (0, [])
    assert set(report["unchecked"]) == {*OF_OTHER_TESTS, "version-not-loaded"}
    assert {"--admin-token" in reason for reason in report["unchecked"].values()} == {True}


def test_a_wrong_token_is_named(server: TritonServer) -> None:
    """A token that opens nothing is a finding; it appears nowhere in the report."""
    wrong = "of-another-server"
    code, report, errors = doctor(server.grpc_url, "--metrics-url", server.metrics_url, token=wrong)
    assert code == 1
    assert [finding["check"] for finding in report["findings"]] == ["token-refused"]
    assert wrong not in json.dumps(report) + errors


def test_nobody_there(free_port: int) -> None:
    """An unreachable server is exit code 3 and a sentence."""
    code, report, errors = doctor(f"grpc://127.0.0.1:{free_port}")
    assert (code, report) == (3, {})
    assert "cannot be reached" in errors


CLOSED_BY_DEFAULT = ("control-open", "shared-memory-open", "trace-open", "logging-open", "statistics-open")

# What is seeded into the sick server; a roll-out that failed makes all of it unready.
UNGUARDED = ("queue-without-limit", "queue-without-timeout", "deadline-ignored")
FAULTS = {
    "server": ("not-ready", *CLOSED_BY_DEFAULT),
    "metrics": ("no-metrics",),
    "preprocess": (
        *UNGUARDED,
        "queue-delays",
        "long-delay",
        "preserve-ordering",
        "preprocess-instances",
        "many-versions",
    ),
    "network_onnx": ("no-dynamic-batching", "threads-unset", "no-warmup", "recipe-damaged", "version-not-loaded"),
    "network_torchscript": (*UNGUARDED, "threads-exceed-cores", "no-warmup"),
    "resnet50": ("labels-incomplete", "recipes-differ", "version-pinned"),
    "resnet50_liar": ("readiness-lies", "no-label-file", "recipes-differ"),
    "resnet50_first": ("batch-fails", "no-label-file", "recipes-differ"),
    "liar_step": ("recipe-missing", "no-photo-limits", "response-cache", *UNGUARDED),
    "first_step": ("recipe-missing", "no-photo-limits", "response-cache", *UNGUARDED),
}


def spoil_preprocess(config: pb.ModelConfig) -> None:
    """A queue and a door without any limit, everything held back, more processes than cores, no limits on photos."""
    config.instance_group[0].count = 2
    batching = config.dynamic_batching
    batching.max_queue_delay_microseconds = 200_000
    batching.preserve_ordering = True
    del config.parameters["max_backlog"]
    batching.default_queue_policy.timeout_action = pb.ModelQueuePolicy.DELAY
    config.version_policy.all.SetInParent()


def spoil_network(config: pb.ModelConfig) -> None:
    """Two instances that fight for the cores, nothing batched, a recipe that was edited."""
    config.ClearField("dynamic_batching")
    config.instance_group[0].count = 2
    config.parameters["recipe"].string_value = config.parameters["recipe"].string_value.replace("224", "200")


def spoil_second_network(config: pb.ModelConfig) -> None:
    """Two instances with a thread each, on one core."""
    config.instance_group[0].count = 2
    config.parameters["INTRA_OP_THREAD_COUNT"].string_value = "1"


def spoil_ensemble(config: pb.ModelConfig) -> None:
    """It goes on asking the oldest version."""
    config.ensemble_scheduling.step[0].model_version = 1


def spoil_step(config: pb.ModelConfig) -> None:
    """A step of unknown origin, which takes photos of any size and keeps every answer."""
    for parameter in list(config.parameters):
        del config.parameters[parameter]
    config.response_cache.enable = True


def lead_to(step: str) -> Callable[[pb.ModelConfig], None]:
    """An ensemble whose first step is another one, without labels."""

    def change(config: pb.ModelConfig) -> None:
        config.ensemble_scheduling.step[0].model_name = step
        config.output[0].label_filename = ""

    return change


@pytest.fixture(scope="module")
def sick(repository_copy) -> Iterator[TritonServer]:
    """One server with many faults."""
    folder = repository_copy.folder
    repository_copy.add("preprocess", change=spoil_preprocess)
    for version in (2, 3):
        (folder / f"preprocess/{version}").symlink_to("1")
    repository_copy.add("network_onnx", change=spoil_network)
    repository_copy.add("network_torchscript", change=spoil_second_network)
    repository_copy.add("resnet50", change=spoil_ensemble)
    labels = folder / "resnet50/labels.txt"
    lines = labels.read_text().splitlines()
    labels.unlink()
    labels.write_text("\n".join(lines[:990]) + "\n")
    for name, code in (("liar", RAISES), ("first", FIRST_ROW_ONLY)):
        repository_copy.add("preprocess", f"{name}_step", spoil_step)
        (folder / f"{name}_step/1/model.py").unlink()
        (folder / f"{name}_step/1/model.py").write_text(code)
        repository_copy.add("resnet50", f"resnet50_{name}", lead_to(f"{name}_step"))
    config = ServerConfig(folder, port=0, open_apis=APIS, triton_args=("--allow-metrics=false",))
    with TritonServer(config) as server:
        break_a_roll_out(server, folder)
        yield server


def break_a_roll_out(server: TritonServer, folder: Path) -> None:
    """A new version of the network is damaged, so the old one stays."""
    (folder / "network_onnx/2").mkdir()
    (folder / "network_onnx/2/model.onnx").write_bytes(b"damaged")
    address = server.http_url.removeprefix("http://")
    with (
        triton.InferenceServerClient(address, network_timeout=60) as client,
        pytest.raises(triton.InferenceServerException),
    ):
        client.load_model("network_onnx")


def test_finds_what_is_really_wrong(sick: TritonServer) -> None:
    """Every seeded fault is found where it is, with cause and remedy, and nothing else is."""
    code, report, _ = doctor(sick.grpc_url, "--metrics-url", sick.metrics_url, "--cores", "1")
    where = {sick.grpc_url: "server", sick.metrics_url: "metrics"}
    found = [(finding["check"], where.get(finding["subject"], finding["subject"])) for finding in report["findings"]]
    assert code == 1
    assert sorted(found) == sorted((check, subject) for subject, checks in FAULTS.items() for check in checks)
    assert len({check for check, _ in found}) >= 30
    assert all(finding["what"] and finding["cause"] and finding["remedy"] for finding in report["findings"])


def test_a_person_reads_the_same(sick: TritonServer) -> None:
    """Without --json there are lines of text, each finding with its reason and its remedy; --ignore leaves one out."""
    options = ["--metrics-url", sick.metrics_url, "--cores", "1", "--ignore", "trace-open"]
    command = [sys.executable, "-m", "resnet_client", "doctor", sick.http_url, *options]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 1
    assert (
        "wrong\tresnet50: 10 of 1000 classes have no label in labels.txt  [labels-incomplete]\n\twhy: " in result.stdout
    )
    assert "[trace-open]" not in result.stdout
    assert "not checked\ttrace-open: ignored, as asked\n" in result.stdout
    assert result.stdout.count("\n\tdo:  ") == sum(map(len, FAULTS.values())) - 1
