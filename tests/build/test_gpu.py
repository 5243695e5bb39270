"""The model config for GPU hosts: defaults, the network of the default model, and keys that NVIDIA's backends read."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from resnet_build import BuildError, configs, gpu
from resnet_build.serving_options import PLAIN, ServingOptions
from resnet_client import preprocessing
from resnet_client.instance_groups import instance_count
from tritonclient.grpc import model_config_pb2 as pb

from .dali_pipeline import dali_rows

PREPROCESSING = preprocessing.PreprocessConfig(resize=256, crop=224)
VARIANTS = ("int8", "fp16")
# The table in the documentation of NVIDIA's onnxruntime_backend, as far as it is used here.
TENSORRT_KEYS = {
    "precision_mode",
    "trt_engine_cache_enable",
    "trt_engine_cache_path",
    "trt_timing_cache_enable",
    "trt_timing_cache_path",
    "trt_profile_min_shapes",
    "trt_profile_opt_shapes",
    "trt_profile_max_shapes",
}


def adapted(
    variants: Sequence[str] = VARIANTS, default: str = PLAIN, batch: int = 0, **options: str
) -> dict[str, pb.ModelConfig]:
    """All models of a repository with variants, built for a GPU host."""
    serving = ServingOptions(instances=2, preferred_batch_size=batch)
    texts = configs.render_all(serving, PREPROCESSING, 1000, variants, default)
    return {name: configs.parse(text) for name, text in gpu.adapt(texts, serving, gpu.GpuOptions(**options)).items()}


@pytest.mark.parametrize("default", ["onnx", "int8"])
@pytest.mark.parametrize(
    ("engine", "variants", "network"),
    [
        ("torchscript", ("int8", "fp16"), "network_torchscript"),
        ("tensorrt", ("int8", "fp16"), "network_fp16"),
        ("tensorrt", ("int8",), "network_onnx"),
    ],
)
def test_adapt_selects_the_network_of_the_default_model(
    engine: str, variants: Sequence[str], network: str, default: str
) -> None:
    """Whatever the network on a CPU is; other ensembles keep theirs."""
    models = adapted(variants, default, gpu_engine=engine, preprocessing="dali")
    steps = {
        name: config.ensemble_scheduling.step[-1].model_name
        for name, config in models.items()
        if config.platform == "ensemble"
    }
    assert steps["resnet50"] == steps["resnet50_dali"] == network
    assert steps["resnet50_int8"] == "network_int8"
    assert steps["resnet50_torchscript"] == "network_torchscript"


@pytest.mark.parametrize(("given", "onnx", "openvino"), [(0, [], [4]), (4, [4], [4])])
def test_adapt_combines_all_waiting_images_on_a_gpu(given: int, onnx: list[int], openvino: list[int]) -> None:
    """Small batches are for CPUs; a size that was given is kept."""
    models = adapted(batch=given)
    for name, expected in {"network_onnx": onnx, "network_fp16": onnx, "network_int8": openvino}.items():
        assert list(models[name].dynamic_batching.preferred_batch_size) == expected


@pytest.mark.parametrize(("cpus", "instances"), [(1, 1), (16, 14), (384, 64)])
def test_serving_has_defaults_for_gpus(monkeypatch: pytest.MonkeyPatch, cpus: int, instances: int) -> None:
    """Larger batches, warmed up, and a process that decodes for each CPU but two; other values are kept."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cpus)))
    found = gpu.serving(ServingOptions())
    assert (found.max_batch_size, found.warmup_batches[-1], found.instances) == (128, 128, 2)
    assert found.preprocess_instances == instances
    given = ServingOptions(max_batch_size=16, warmup_batch=4, instances=1, preprocess_instances=5)
    assert gpu.serving(given) == given


@pytest.mark.parametrize(
    ("engine", "default", "unused"),
    [("torchscript", "onnx", {"network_onnx"}), ("tensorrt", "onnx", {"network_onnx"}), ("torchscript", "int8", set())],
)
def test_adapt_serves_a_network_without_an_ensemble_with_one_instance(engine: str, default: str, unused: set) -> None:
    """It can be called, but neither warm-up nor TensorRT's engines delay the start for it."""
    models = adapted(default=default, gpu_engine=engine)
    networks = {name: config for name, config in models.items() if config.backend == "onnxruntime"}
    assert {name for name, config in networks.items() if len(config.model_warmup) == 1} == unused
    for name in unused:
        assert instance_count(networks[name]) == 1
        assert not networks[name].HasField("optimization")


def test_adapt_adds_tensorrt_to_networks_that_may_run_on_a_gpu() -> None:
    """By known keys, in the precision of the network; TorchScript, Python and what stays on the CPU are left alone."""
    found = {}
    for name, config in adapted(default="int8", gpu_engine="tensorrt", engine_cache="/cache").items():
        for accelerator in config.optimization.execution_accelerators.gpu_execution_accelerator:
            assert accelerator.name == "tensorrt"
            assert set(accelerator.parameters) == TENSORRT_KEYS
            assert accelerator.parameters["trt_engine_cache_path"] == "/cache"
            ranges = [accelerator.parameters[f"trt_profile_{bound}_shapes"] for bound in ("min", "opt", "max")]
            assert ranges == [f"PIXELS__0:{batch}x224x224x3" for batch in (1, 32, 32)]
            found[name] = accelerator.parameters["precision_mode"]
    assert found == {"network_onnx": "FP32", "network_fp16": "FP16"}


def test_gpu_options_refuse_a_relative_cache() -> None:
    """A relative one would lie wherever the server was started."""
    with pytest.raises(BuildError, match="absolute"):
        gpu.GpuOptions(engine_cache="engines")


def test_adapt_adds_models_that_check_and_decode_for_dali() -> None:
    """The check counts and refuses as `preprocess` does; the default ensemble stays as it is."""
    models = adapted(preprocessing="dali")
    steps = [step.model_name for step in models["resnet50_dali"].ensemble_scheduling.step]
    assert steps == ["preprocess_check", "preprocess_dali", "network_torchscript"]
    assert models["preprocess_check"].parameters["max_queue_size"].string_value == "64"
    assert models["resnet50"].ensemble_scheduling.step[0].model_name == "preprocess"
    dali = models["preprocess_dali"]
    assert (dali.backend, dali.instance_group[0].kind) == ("dali", pb.ModelInstanceGroup.KIND_GPU)
    assert (dali.input[0].data_type, list(dali.input[0].dims)) == (pb.TYPE_UINT8, [-1])
    assert dali.input[0].allow_ragged_batch
    assert dali.HasField("dynamic_batching")
    assert dali.parameters["preprocessing"].string_value == PREPROCESSING.to_json()
    (sample,) = dali.model_warmup
    image = gpu.files()[f"preprocess_dali/warmup/{sample.inputs['ENCODED'].input_data_file}"].read_bytes()
    assert list(sample.inputs["ENCODED"].dims) == [len(image)]
    assert image.startswith(b"\xff\xd8\xff")


def test_chosen_keeps_what_was_built() -> None:
    """A later build without the flags keeps what the manifest records, as far as this version knows it."""
    record = {"gpu": {"gpu_engine": "tensorrt", "preprocessing": "pillow", "engine_cache": "/engines"}}
    assert gpu.chosen(record, {"preprocessing": "dali"}) == gpu.GpuOptions("tensorrt", "dali")
    assert gpu.chosen({}, {}) == gpu.GpuOptions()
    assert gpu.chosen({"gpu": {"gpu_engine": "tensorrt", "of_another_version": "x"}}, {}) == gpu.GpuOptions("tensorrt")


@pytest.mark.parametrize("resize", [232, 256])
def test_dali_pipeline_cuts_torchvisions_pixels(tmp_path: Path, images: dict[str, Path], resize: int) -> None:
    """On its operators for CPUs; sides of all parities, where half a pixel is rounded to the even one."""
    encoded = [*(path.read_bytes() for path in images.values()), *odd_sides(tmp_path, images["coffee"])]
    preprocess_config = preprocessing.PreprocessConfig(resize=resize, crop=224)
    for row, one in zip(dali_rows(encoded, preprocess_config, tmp_path), encoded, strict=True):
        difference = np.abs(row.astype(int) - preprocessing.prepare(one, preprocess_config))
        assert difference.max() <= 1
        assert difference.mean() < 0.25


def odd_sides(folder: Path, path: Path) -> list[bytes]:
    """The same image in sizes whose crops begin at whole and at half pixels, as BMP."""
    found = []
    for width, height in ((300, 400), (401, 300), (640, 427), (333, 500), (500, 375)):
        Image.open(path).convert("RGB").resize((width, height)).save(folder / "odd.bmp")
        found.append((folder / "odd.bmp").read_bytes())
    return found
