"""The options for GPU hosts add only keys that NVIDIA's backends read."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from resnet_build import BuildError, configs, gpu
from resnet_build.serving_options import ServingOptions
from resnet_client import preprocessing
from tritonclient.grpc import model_config_pb2 as pb

PREPROCESSING = preprocessing.PreprocessConfig(resize=256, crop=224)
VARIANTS = ("int8", "fp16")
# The table in the documentation of NVIDIA's onnxruntime_backend, as far as it is used here.
TENSORRT_KEYS = {
    "precision_mode",
    "trt_engine_cache_enable",
    "trt_engine_cache_path",
    "trt_timing_cache_enable",
    "trt_timing_cache_path",
}


def adapted(**options: str) -> dict[str, pb.ModelConfig]:
    """All models of a repository with variants, built for a GPU host."""
    texts = configs.render_all(ServingOptions(), PREPROCESSING, 1000, VARIANTS)
    return {name: configs.parse(text) for name, text in gpu.adapt(texts, gpu.GpuOptions(**options)).items()}


def test_adapt_without_options_changes_nothing() -> None:
    """A repository for CPUs is the same text as before."""
    texts = configs.render_all(ServingOptions(), PREPROCESSING, 1000, VARIANTS)
    assert gpu.adapt(texts, gpu.GpuOptions()) == texts


def test_adapt_adds_tensorrt_to_networks_that_may_run_on_a_gpu() -> None:
    """By known keys, in the precision of the network; TorchScript, Python and what stays on the CPU are left alone."""
    found = {}
    for name, config in adapted(accelerator="tensorrt", engine_cache="/cache").items():
        for accelerator in config.optimization.execution_accelerators.gpu_execution_accelerator:
            assert accelerator.name == "tensorrt"
            assert set(accelerator.parameters) == TENSORRT_KEYS
            assert accelerator.parameters["trt_engine_cache_path"] == "/cache"
            found[name] = accelerator.parameters["precision_mode"]
    assert found == {"network_onnx": "FP32", "network_fp16": "FP16"}


def test_adapt_warms_up_with_the_largest_batch_first() -> None:
    """Then TensorRT builds an engine twice at most: every other batch lies between it and a single image."""
    models = adapted(accelerator="tensorrt")
    assert [sample.batch_size for sample in models["network_onnx"].model_warmup] == [32, 1, 2, 4, 8]
    assert [sample.batch_size for sample in models["network_torchscript"].model_warmup] == [1, 2, 4, 8]


def test_gpu_options_refuse_a_relative_cache() -> None:
    """A relative one would lie wherever the server was started."""
    with pytest.raises(BuildError, match="absolute"):
        gpu.GpuOptions(engine_cache="engines")


def test_adapt_adds_models_that_check_and_decode_for_dali() -> None:
    """The check counts and refuses as `preprocess` does; the default ensemble stays as it is."""
    models = adapted(preprocessing="dali")
    steps = [step.model_name for step in models["resnet50_dali"].ensemble_scheduling.step]
    assert steps == ["preprocess_check", "preprocess_dali", "network_onnx"]
    assert models["preprocess_check"].parameters["max_queue_size"].string_value == "64"
    assert [step.model_name for step in models["resnet50"].ensemble_scheduling.step] == ["preprocess", "network_onnx"]
    dali = models["preprocess_dali"]
    assert (dali.backend, dali.instance_group[0].kind) == ("dali", pb.ModelInstanceGroup.KIND_GPU)
    assert (dali.input[0].data_type, list(dali.input[0].dims)) == (pb.TYPE_UINT8, [-1])
    assert dali.input[0].allow_ragged_batch
    assert dali.HasField("dynamic_batching")
    assert dali.parameters["preprocessing"].string_value == PREPROCESSING.to_json()


def test_chosen_keeps_what_was_built() -> None:
    """A later build without the flags keeps what the manifest records, as far as this version knows it."""
    record = {"gpu": {"accelerator": "tensorrt", "preprocessing": "pillow", "engine_cache": "/engines"}}
    assert gpu.chosen(record, {"preprocessing": "dali"}) == gpu.GpuOptions("tensorrt", "dali")
    assert gpu.chosen({}, {}) == gpu.GpuOptions()
    assert gpu.chosen({"gpu": {"accelerator": "tensorrt", "of_another_version": "x"}}, {}) == gpu.GpuOptions("tensorrt")


@pytest.mark.parametrize("resize", [232, 256])
def test_dali_pipeline_cuts_torchvisions_pixels(tmp_path: Path, images: dict[str, Path], resize: int) -> None:
    """On its operators for CPUs; sides of all parities, where half a pixel is rounded to the even one."""
    dali = pytest.importorskip("nvidia.dali", reason="nvidia-dali-cuda120 is not installed")
    preprocess_config = preprocessing.PreprocessConfig(resize=resize, crop=224)
    files = gpu.model_files(preprocess_config, max_batch_size=32)
    (tmp_path / "dali.py").write_text(files["preprocess_dali/1/dali.py"])
    (tmp_path / "preprocess_config.json").write_text(files["preprocess_dali/1/preprocess_config.json"])
    spec = importlib.util.spec_from_file_location("dali_pipeline", tmp_path / "dali.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    encoded = [*(path.read_bytes() for path in images.values()), *odd_sides(tmp_path, images["coffee"])]

    @dali.pipeline_def(batch_size=32, num_threads=2, device_id=None, prefetch_queue_depth=1)
    def on_the_cpu():
        data = dali.fn.external_source(name="ENCODED", dtype=dali.types.UINT8, ndim=1)
        return module.prepared(data, decoder="cpu", resize=resize, crop=224, interpolation="bilinear")

    pipeline = on_the_cpu(exec_async=False, exec_pipelined=False)
    pipeline.feed_input("ENCODED", [np.frombuffer(one, np.uint8) for one in encoded])
    (rows,) = pipeline.run()
    for row, one in zip(rows, encoded, strict=True):
        difference = np.abs(np.asarray(row).astype(int) - preprocessing.prepare(one, preprocess_config))
        assert difference.max() <= 1
        assert difference.mean() < 0.25


def odd_sides(folder: Path, path: Path) -> list[bytes]:
    """The same image in sizes whose crops begin at whole and at half pixels, as BMP."""
    found = []
    for width, height in ((300, 400), (401, 300), (640, 427), (333, 500), (500, 375)):
        Image.open(path).convert("RGB").resize((width, height)).save(folder / "odd.bmp")
        found.append((folder / "odd.bmp").read_bytes())
    return found


def test_model_files_have_the_preprocessing_config() -> None:
    """The preprocessing config is next to the pipeline, with the largest batch."""
    files = gpu.model_files(PREPROCESSING, max_batch_size=8)
    written = json.loads(files["preprocess_dali/1/preprocess_config.json"])
    assert written == {"resize": 256, "crop": 224, "interpolation": "bilinear", "max_batch_size": 8}
    compile(files["preprocess_dali/1/dali.py"], "dali.py", "exec")
