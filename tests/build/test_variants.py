"""Variants: how they are built and recorded, which kernels compute them, and a server that answers with them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import openvino
import pytest
from resnet_build import BuildError, variants
from resnet_build.images import CalibrationSet
from resnet_build.network import Network
from resnet_build.quantize import int8
from resnet_client import Client
from resnet_client.requests import PIXELS
from resnet_serve import ServerConfig, TritonServer

RANDOM_VARIANTS = ("int8", "fp32", "fp16")


def test_variants_are_recorded(random_repository: Path) -> None:
    """The manifest has methods, images with their hash, how near each is to the FP32 network, and the default."""
    manifest = json.loads((random_repository / "manifest.json").read_text())
    entry, default = manifest["versions"]["1"], manifest["default_model"]
    assert tuple(entry["variants"]) == RANDOM_VARIANTS
    assert {f"network_{name}/1/model.onnx" for name in RANDOM_VARIANTS} <= entry["artifacts"].keys()
    found = entry["variants"]["int8"]
    assert found["method"] == int8.METHOD
    assert Path(found["calibration"]["source"]).name == "calibration"
    assert len(found["calibration"]["sha256"]) == 64
    assert found["fidelity"]["similarity"] >= 0.99
    assert entry["variants"]["fp16"]["fidelity"]["similarity"] >= 0.9999
    assert (default["requested"], default["network"]) == ("fp32", "network_fp32")
    assert default["least_share"] == 0.99


def kernels(artifact: Path, precision: openvino.Type) -> Counter[tuple[str, str]]:
    """Return OpenVINO's profile: layer and precision of its kernel → number."""
    core = openvino.Core()
    properties = {"PERF_COUNT": True, "INFERENCE_PRECISION_HINT": precision}
    request = core.compile_model(core.read_model(artifact), "CPU", properties).create_infer_request()
    request.infer({PIXELS: np.zeros((1, 224, 224, 3), dtype=np.uint8)})
    executed = [layer for layer in request.profiling_info if layer.status == layer.Status.EXECUTED]
    return Counter((layer.node_type, layer.exec_type.lower().rpartition("_")[2]) for layer in executed)


def test_int8_is_computed_in_integers(random_repository: Path) -> None:
    """All convolutions are integer ones, and what lies between them is never converted to floats and back."""
    found = kernels(random_repository / "network_int8/1/model.onnx", openvino.Type.f32)
    assert {kind: count for kind, count in found.items() if kind[0] == "Convolution"} == {("Convolution", "i8"): 53}
    others = {kind: count for kind, count in found.items() if kind[0] in {"Convert", "Subtract", "FakeQuantize"}}
    assert others in ({}, {("FakeQuantize", "i8"): 1})  # on processors with AMX, that of the pixels


@pytest.mark.skipif(not variants.has_bfloat16(), reason="this processor has no bfloat16")
def test_bf16_is_computed_in_bfloat16(random_repository: Path) -> None:
    """Every convolution of the FP32 artifact, which the variant is a copy of, and the last layer."""
    found = kernels(random_repository / "network_onnx/1/model.onnx", openvino.Type.bf16)
    assert {kind: count for kind, count in found.items() if kind[0] == "Convolution"} == {("Convolution", "bf16"): 53}
    assert found["FullyConnected", "bf16"] == 1


LOOK_UPS = """\
import sys
sys.addaudithook(lambda event, found: event == "socket.getaddrinfo" and open({file!r}, "a").write(f"{{found}}"))
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty HOME for other processes, without the opt-out that importing the build leaves in the environment."""
    monkeypatch.delenv("ORT_DISABLE_TELEMETRY")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


def test_engines_of_a_build_report_nothing(home: Path, tmp_path: Path, small_network: Path) -> None:
    """If the build is imported, ONNX Runtime and OpenVINO look up no name and write no file below HOME."""
    file = tmp_path / "look_ups"
    script = LOOK_UPS.format(file=str(file)) + (
        "import resnet_build, onnxruntime, openvino\n"
        f"onnxruntime.InferenceSession({str(small_network)!r}, providers=['CPUExecutionProvider'])\n"
        f"openvino.Core().compile_model({str(small_network)!r}, 'CPU')\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
    assert not [*home.rglob("*")]
    assert not file.exists()


def test_variants_are_served(
    random_repository: Path, images: dict[str, Path], home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each has its own ensemble and nearly the FP32 network's answers; ``resnet50`` has those of its variant.

    Their engines look up no name and write no file below HOME.
    """
    file = tmp_path / "look_ups"
    (tmp_path / "sitecustomize.py").write_text(LOOK_UPS.format(file=str(file)))
    monkeypatch.syspath_prepend(tmp_path)
    names = ("resnet50", "resnet50_onnx", *(f"resnet50_{name}" for name in RANDOM_VARIANTS))
    with (
        TritonServer(ServerConfig(random_repository, names, port=0)) as server,
        Client(server.grpc_url) as client,
    ):
        assert {model.name: model.backend for model in server.models()}["network_fp32"] == "openvino"
        vectors = {name: client.embed(images["cat"], model=name) for name in names}
        answers = {name: client.classify(images["cat"], model=name).top for name in names}
    assert answers["resnet50"] == answers["resnet50_fp32"]
    expected = vectors["resnet50_onnx"]
    for name, got in vectors.items():
        assert got @ expected / np.linalg.norm(got) / np.linalg.norm(expected) > 0.99, name
        assert answers[name].probability > 0
    assert not [*home.rglob("*")]
    assert not file.exists()


def test_copied_variants_differ_in_precision_only(tmp_path: Path, small_network: Path, pixels: np.ndarray) -> None:
    """The file stays the same, and the answers are near the FP32 network's."""
    copy = tmp_path / "model.onnx"
    variants.copy(small_network, copy, pixels)
    assert copy.read_bytes() == small_network.read_bytes()
    true: Network = variants.open_network("onnx", small_network)
    for name, tolerance in (("bf16", 2e-2), ("fp32", 1e-4)):
        for values, expected in zip(variants.open_network(name, copy)(pixels), true(pixels), strict=True):
            np.testing.assert_allclose(values, expected, rtol=2.5 * tolerance, atol=tolerance)


@pytest.mark.parametrize("is_required", [True, False])
def test_build_leaves_out_a_candidate_that_differs_too_much(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, small_network: Path, pixels: np.ndarray, is_required: bool
) -> None:
    """A variant below its bound fails the build only if it was requested by name."""
    check = variants.check_variant

    def strict(name: str, *arguments: object) -> object:
        if name == "bf16":
            raise BuildError("the variant bf16 differs too much")
        return check(name, *arguments)

    monkeypatch.setattr(variants, "check_variant", strict)
    calibration, messages = CalibrationSet("nowhere", pixels, pixels, []), []
    names = {"fp32": False, "bf16": is_required}
    options = {"plain": variants.open_network("onnx", small_network), "folder": tmp_path, "report": messages.append}
    if is_required:
        with pytest.raises(BuildError, match="too much"):
            variants.build(names, small_network, calibration, **options)
    else:
        assert variants.build(names, small_network, calibration, **options).keys() == {"fp32"}
        assert messages[-1] == "left out: the variant bf16 differs too much"
