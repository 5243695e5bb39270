"""Variants through the whole build: files, record, kernels, and a server that answers with them."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import openvino
import pytest
from PIL import Image
from resnet_build import pipeline
from resnet_build.__main__ import main
from resnet_build.engines import has_bfloat16
from resnet_build.errors import BuildError
from resnet_build.options import ServingOptions
from resnet_build.tensors import PIXELS
from resnet_build.weights import FileOptions
from resnet_client import Client
from resnet_serve import ServerConfig, TritonServer

WEIGHTS = ("--weights", "random:0", "--max-batch-size", "2")
# Not BF16: random weights make logits so large that their rounding decides.
RANDOM_VARIANTS = ("int8", "fp16")


@pytest.fixture(scope="module")
def calibration_photos(tmp_path_factory: pytest.TempPathFactory, photos: dict[str, Path]) -> Path:
    """A folder of few photos, so that the build is quick."""
    folder = tmp_path_factory.mktemp("calibration")
    for name, path in photos.items():
        with Image.open(path) as image:
            for turn in range(2):
                image.convert("RGB").rotate(180 * turn).save(folder / f"{name}-{turn}.jpg")
    return folder


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, calibration_photos: Path) -> Path:
    """A repository of random weights with those variants that may be judged by them."""
    repository = tmp_path_factory.mktemp("variants") / "repository"
    variants = [argument for name in RANDOM_VARIANTS for argument in ("--variant", name)]
    assert (
        main([*WEIGHTS, *variants, "--calibration-images", str(calibration_photos), "--repository", str(repository)])
        == 0
    )
    return repository


def options(repository: Path, **changed: object) -> pipeline.BuildOptions:
    """What was built, asked for once more without naming variants."""
    return pipeline.BuildOptions(
        "random:0", FileOptions(), ServingOptions(max_batch_size=2), repository, repository, **changed
    )


def test_the_manifest_tells_how_variants_were_made(built: Path, calibration_photos: Path) -> None:
    """Method, photos with their hash, and how near the variant is to the float network are on record."""
    entry = json.loads((built / "manifest.json").read_text())["versions"]["1"]
    assert entry["inputs"]["variants"] == list(RANDOM_VARIANTS)
    int8, fp16 = (entry["variants"][name] for name in RANDOM_VARIANTS)
    assert "equalised" in int8["method"]
    assert int8["calibration"]["source"].endswith(str(calibration_photos.resolve()))
    assert len(int8["calibration"]["sha256"]) == 64
    assert int8["fidelity"]["similarity"] >= 0.99
    assert fp16["fidelity"]["similarity"] >= 0.9999
    assert {f"network_{name}/1/model.onnx" for name in RANDOM_VARIANTS} <= entry["artifacts"].keys()


def kernels(artifact: Path, precision: openvino.Type) -> Counter[tuple[str, str]]:
    """What OpenVINO's own profile shows: layer and precision of its kernel, how often."""
    core = openvino.Core()
    properties = {"PERF_COUNT": True, "INFERENCE_PRECISION_HINT": precision}
    request = core.compile_model(core.read_model(artifact), "CPU", properties).create_infer_request()
    request.infer({PIXELS: np.zeros((1, 224, 224, 3), dtype=np.uint8)})
    executed = [layer for layer in request.profiling_info if layer.status == layer.Status.EXECUTED]
    return Counter((layer.node_type, layer.exec_type.rpartition("_")[2]) for layer in executed)


def test_integer_kernels_run(built: Path) -> None:
    """All convolutions are integer ones, and what lies between them is never converted to floats and back."""
    found = kernels(built / "network_int8/1/model.onnx", openvino.Type.f32)
    assert {kind: count for kind, count in found.items() if kind[0] == "Convolution"} == {("Convolution", "I8"): 53}
    assert not {"Convert", "Subtract", "FakeQuantize"} & {layer for layer, _ in found}


@pytest.mark.skipif(not has_bfloat16(), reason="this processor has no bfloat16")
def test_brain_float_kernels_run(variant_repository: Path) -> None:
    """Every convolution and the last layer."""
    found = kernels(variant_repository / "network_bf16/1/model.onnx", openvino.Type.bf16)
    assert {kind: count for kind, count in found.items() if kind[0] == "Convolution"} == {("Convolution", "bf16"): 53}
    assert found["FullyConnected", "bf16"] == 1


def test_later_builds_keep_variants(built: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Who builds again without naming them finds them up to date, not left behind with old weights."""
    before = {path: path.stat().st_mtime_ns for path in built.rglob("model.onnx")}
    assert main([*WEIGHTS, "--repository", str(built)]) == 0
    assert "is up to date" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in built.rglob("model.onnx")} == before


def test_a_variant_is_dropped_by_removing_its_folders(built: Path, tmp_path: Path) -> None:
    """Then it is no part of the next build."""
    copy = shutil.copytree(built, tmp_path / "repository")
    assert options(copy).all_variants == RANDOM_VARIANTS
    shutil.rmtree(copy / "network_fp16")
    shutil.rmtree(copy / "resnet50_fp16")
    assert options(copy).all_variants == ("int8",)


def test_photos_without_int8_are_refused(tmp_path: Path, calibration_photos: Path) -> None:
    """An option that would be ignored is told."""
    with pytest.raises(BuildError, match="--calibration-images is for --variant int8"):
        pipeline.build(options(tmp_path, calibration_images=calibration_photos, variants=("fp16",)), print)


def test_bad_calibration_photos_are_told_before_the_export(tmp_path: Path, calibration_photos: Path) -> None:
    """Which takes a quarter of a minute, and would be in vain."""
    folder = shutil.copytree(calibration_photos, tmp_path / "photos")
    (folder / "broken.jpg").write_bytes(b"nothing")
    said: list[str] = []
    with pytest.raises(BuildError, match=r"the calibration image .*broken\.jpg cannot be used"):
        pipeline.build(options(tmp_path / "own", calibration_images=folder, variants=("int8",)), said.append)
    assert not [sentence for sentence in said if "exported" in sentence]


def test_variants_are_served(built: Path, photos: dict[str, Path]) -> None:
    """Each has its own door, and nearly the answers of the float network."""
    models = tuple(f"--load-model=resnet50{variant}" for variant in ("", *(f"_{name}" for name in RANDOM_VARIANTS)))
    config = ServerConfig(built, port=0, triton_args=("--model-control-mode=explicit", *models))
    with TritonServer(config) as server, Client(server.grpc_url) as client:
        expected = client.embed(photos["cat"])
        for model in (f"resnet50_{name}" for name in RANDOM_VARIANTS):
            got = client.embed(photos["cat"], model=model)
            similarity = got @ expected / np.linalg.norm(got) / np.linalg.norm(expected)
            assert similarity > 0.99, model
            assert client.classify(photos["cat"], model=model).top.probability > 0


def test_the_default_door_answers_with_the_network_that_was_asked_for(
    variant_repository: Path, photos: dict[str, Path]
) -> None:
    """It and the variant by its own name say the same, the float network beside them nearly so; all is on record."""
    recorded = json.loads((variant_repository / "manifest.json").read_text())["door"]
    assert (recorded["requested"], recorded["network"]) == ("bf16", "network_bf16")
    assert recorded["agreement"]["network_bf16"] >= recorded["least_agreement"] == 0.99
    models = ("resnet50", "resnet50_bf16", "resnet50_onnx")
    flags = ("--model-control-mode=explicit", *(f"--load-model={model}" for model in models))
    with (
        TritonServer(ServerConfig(variant_repository, port=0, triton_args=flags)) as server,
        Client(server.grpc_url) as client,
    ):
        assert {model.name: model.backend for model in server.models()}["network_bf16"] == "openvino"
        default, own, plain = (client.classify(photos["cat"], model=model).top for model in models)
    assert default == own
    assert default.index == plain.index
    assert default.probability == pytest.approx(plain.probability, abs=0.05)


def test_a_faster_door_is_kept_until_something_else_is_asked_for(variant_repository: Path, tmp_path: Path) -> None:
    """Without the option nothing is done again; with another, the door is not up to date."""
    copy = shutil.copytree(variant_repository, tmp_path / "repository", copy_function=os.symlink)
    build = pipeline.BuildOptions("keras-v1", FileOptions(), ServingOptions(), copy, copy)
    lines: list[str] = []
    assert not pipeline.build(build, lines.append)
    assert "is up to date" in lines[-1]
