"""Faults that no real server of the tests can have; the others are in ``test_doctor.py``."""

import copy
import dataclasses
import re
from pathlib import Path

import pytest
from google.protobuf import text_format
from google.protobuf.json_format import MessageToDict
from resnet_client import Classification, Prediction, doctor
from resnet_client.endpoints import Endpoint
from tritonclient.grpc import model_config_pb2 as pb

ROOT = Path(__file__).resolve().parents[3]
# Those in git: a checkout may have other models that were built there.
MODELS = ("network_onnx", "network_torchscript", "preprocess", "resnet50", "resnet50_torchscript")
CONFIGS = {
    name: MessageToDict(
        text_format.Parse((ROOT / "model_repository" / name / "config.pbtxt").read_text(), pb.ModelConfig()),
        preserving_proto_field_name=True,
    )
    for name in MODELS
}
LABELLED = Classification((Prediction(285, "Egyptian cat", 0.9),), "resnet50", "1")


def snapshot(**changes):
    """The default repository on a healthy server where everything can be read."""
    healthy = doctor.Snapshot(
        endpoint=Endpoint.parse("grpc://127.0.0.1:8001"),
        model="resnet50",
        is_ready=True,
        is_token_refused=False,
        index=(),
        configs=CONFIGS,
        probes={"resnet50": doctor.Probe(is_ready=True, result=LABELLED)},
        is_admin_open=False,
        metrics_url="http://127.0.0.1:8002/metrics",
        metrics="nv_inference_count 1\n",
        unread={},
    )
    return dataclasses.replace(healthy, **changes)


def with_config(name, change, **changes):
    configs = copy.deepcopy(CONFIGS)
    change(configs[name])
    return snapshot(configs=configs, **changes)


def on_gpu(**options):
    """Run a model on the GPU, in the backend of NVIDIA's image unless the options name another."""

    def change(config):
        config.update({"runtime": "libtriton_onnxruntime.so", "instance_group": [{"kind": "KIND_GPU"}]} | options)

    return change


TENSORRT = {"execution_accelerators": {"gpu_execution_accelerator": [{"name": "tensorrt"}]}}


@pytest.mark.parametrize(
    ("check", "subject", "seen"),
    [
        ("not-ready", "resnet50", snapshot(probes={"resnet50": doctor.Probe(is_ready=False, result=LABELLED)})),
        ("not-ready", "grpc://127.0.0.1:8001", snapshot(is_ready=False, probes={})),
        ("open-admin-api", "grpc://127.0.0.1:8001", snapshot(is_admin_open=True)),
        ("version-not-loaded", "network_int8", snapshot(is_ready=False, index=({"name": "network_int8"},))),
        (
            "queue-limit",
            "network_onnx",
            with_config("network_onnx", lambda c: c["dynamic_batching"].update(default_queue_policy={})),
        ),
        ("gpu-idle", "network_onnx", snapshot(metrics='nv_gpu_utilization{gpu_uuid="GPU-0"} 0\n')),
        ("cuda-provider", "network_onnx", with_config("network_onnx", on_gpu())),
        ("plaintext", "http://10.0.0.7:8000", snapshot(endpoint=Endpoint.parse("http://10.0.0.7:8000"))),
    ],
)
def test_examine_finds_one_fault_once(check, subject, seen):
    assert [(check, subject)] == [(finding.check, finding.subject) for finding in doctor.examine(seen).findings]


@pytest.mark.parametrize(
    "seen",
    [
        snapshot(),
        snapshot(is_ready=False),  # another model failed to load
        snapshot(index=({"name": "network_int8"},)),  # not loaded on purpose
        with_config("network_torchscript", on_gpu()),  # TorchScript
        with_config("network_onnx", on_gpu(), model="resnet50_torchscript"),  # not the default model
        with_config("network_onnx", on_gpu(runtime="model.py")),  # resnet-serve
        with_config("network_onnx", on_gpu(optimization=TENSORRT)),
        with_config("network_onnx", on_gpu(runtime="model.py"), metrics="nv_gpu_utilization 0\n"),
        snapshot(endpoint=Endpoint.parse("grpcs://10.0.0.7:8001")),
        snapshot(endpoint=Endpoint.parse("http://localhost:8000")),
        snapshot(endpoint=Endpoint.parse("http://[::1]:8000")),
    ],
)
def test_examine_finds_nothing_in_what_resembles_a_fault(seen):
    assert doctor.examine(seen).findings == ()


@pytest.mark.parametrize("attribute", ["configs", "index", "metrics_url"])
def test_examine_gives_the_reason_for_what_it_cannot_check(attribute):
    """What could not be read is no finding."""
    report = doctor.examine(snapshot(**{attribute: None}, unread={attribute: "restricted"}))
    assert report.findings == ()
    assert set(report.not_checked.values()) == {"restricted"}


def test_checks_are_those_of_the_documentation():
    """docs/doctor.md has one row for each check, in the order of reports."""
    page = (ROOT / "docs/doctor.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([a-z-]+)` \| (error|performance|security) \|", page, re.MULTILINE)
    assert rows == [(check.name, check.kind) for check in doctor.CHECKS]
