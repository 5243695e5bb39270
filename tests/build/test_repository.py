"""The files around the artifacts: which configs are written where, and what a build replaces or removes."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from resnet_build import gpu
from resnet_build.repository import DEFAULT_PREPROCESSING, Repository
from resnet_build.serving_options import ServingOptions
from resnet_client.named_configs import models_with
from resnet_client.preprocessing import PreprocessConfig

ROOT = Path(__file__).resolve().parents[2]
DEFAULT_MODELS = {"preprocess", "network_onnx", "network_torchscript", "resnet50", "resnet50_torchscript"}


def described(
    root: Path = ROOT,
    preprocess_config: PreprocessConfig = DEFAULT_PREPROCESSING,
    serving: ServingOptions | None = None,
    **gpu_options: str,
) -> Repository:
    """A repository with a variant."""
    labels, options = ("label",) * 1000, gpu.GpuOptions(**gpu_options)
    return Repository(root, labels, preprocess_config, serving or ServingOptions(), options, ("int8",))


def named(texts: dict[str, str], name: str) -> set[str]:
    """The models that have a config of this name."""
    return {path.partition("/")[0] for path in texts if path.endswith(f"/configs/{name}.pbtxt")}


def test_configs_are_the_committed_ones_by_default() -> None:
    """Default weights and options need a named config for GPU hosts only."""
    texts = described().configs()
    assert not named(texts, "local")
    assert named(texts, "gpu") >= DEFAULT_MODELS
    for name in DEFAULT_MODELS:
        assert texts[f"{name}/config.pbtxt"] == (ROOT / f"model_repository/{name}/config.pbtxt").read_text(), name


@pytest.mark.parametrize(
    "other", [{"preprocess_config": PreprocessConfig(resize=256, crop=224)}, {"serving": ServingOptions(threads=2)}]
)
def test_configs_of_other_weights_and_options_are_named(other: dict[str, Any]) -> None:
    """The committed files stay as they are."""
    texts, default = described(**other).configs(), described().configs()
    changed = DEFAULT_MODELS if "preprocess_config" in other else {"network_onnx", "network_torchscript"}
    assert named(texts, "local") == changed
    for name in DEFAULT_MODELS:
        assert texts[f"{name}/config.pbtxt"] == default[f"{name}/config.pbtxt"]
    assert texts["network_int8/config.pbtxt"] != default["network_int8/config.pbtxt"]


def test_configs_for_gpus_have_their_own_default_model() -> None:
    """Also in a repository whose default model is a variant for CPUs; a server on a CPU does not see them."""
    texts = described(gpu_engine="tensorrt").configs()
    assert "network_onnx" in texts["resnet50/configs/gpu.pbtxt"]
    assert "tensorrt" in texts["network_onnx/configs/gpu.pbtxt"]
    assert not any("tensorrt" in text for path, text in texts.items() if not path.endswith("gpu.pbtxt"))
    for_cpu = dataclasses.replace(described(), default="int8").configs()
    assert "network_int8" in for_cpu["resnet50/configs/local.pbtxt"]
    assert "network_torchscript" in for_cpu["resnet50/configs/gpu.pbtxt"]


def test_is_complete_notices_every_missing_file(tmp_path: Path) -> None:
    """Whatever was published is needed; a config that was edited by hand stays."""
    repository = described(tmp_path, PreprocessConfig(resize=256, crop=224), preprocessing="dali")
    assert not repository.is_complete()
    repository.publish({}, {"versions": {}})
    assert repository.is_complete()
    (tmp_path / "resnet50/config.pbtxt").write_text("# by hand")
    files = {path for path in tmp_path.rglob("*") if path.is_file() and path.name != "manifest.json"}
    assert len(files) > 30
    for path in files:
        path.rename(tmp_path / "aside")
        assert not repository.is_complete(), path
        (tmp_path / "aside").rename(path)
    assert repository.is_complete()


def test_publish_removes_configs_that_no_longer_fit(tmp_path: Path) -> None:
    """Named configs that are not written any more go, tuned ones with any change, and no others."""
    described(tmp_path, serving=ServingOptions(threads=2)).publish({}, {"versions": {}})
    for name in ("tuned", "other"):
        (tmp_path / f"network_onnx/configs/{name}.pbtxt").write_text("# measured")
    assert described(tmp_path, serving=ServingOptions(threads=2)).publish({}, {"versions": {}}) == []
    assert models_with(tmp_path, "tuned") == ["network_onnx"]
    assert described(tmp_path).publish({}, {"versions": {}}) == ["network_onnx"]
    assert not [*models_with(tmp_path, "tuned"), *models_with(tmp_path, "local")]
    assert models_with(tmp_path, "other") == ["network_onnx"]


def test_publish_without_dali_removes_its_models(tmp_path: Path) -> None:
    """Otherwise they would keep the labels of an earlier build, which are wrong for another network."""
    for decoder in ("dali", "pillow"):
        described(tmp_path, preprocessing=decoder).publish({}, {"versions": {}})
        there = {path.name for path in tmp_path.iterdir() if path.is_dir()}
        assert there & set(gpu.MODELS) == (set(gpu.MODELS) if decoder == "dali" else set())
    assert "resnet50" in there
