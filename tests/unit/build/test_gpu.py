"""What the options for GPU hosts add to the configurations: keys that NVIDIA's backends read, and no others."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from resnet_build import configs, gpu, pipeline, weights
from resnet_build.errors import BuildError
from resnet_build.options import ServingOptions
from resnet_client import preprocessing
from tritonclient.grpc import model_config_pb2 as pb

RECIPE = preprocessing.Recipe(resize=256, crop=224)
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
    texts = configs.render_all(ServingOptions(), RECIPE, 1000, VARIANTS)
    return {name: configs.parse(text) for name, text in gpu.adapt(texts, gpu.GpuOptions(**options)).items()}


def test_without_options_nothing_changes() -> None:
    """A repository for CPUs is the same text as before."""
    texts = configs.render_all(ServingOptions(), RECIPE, 1000, VARIANTS)
    assert gpu.adapt(texts, gpu.GpuOptions()) == texts


def test_tensorrt_computes_the_networks_that_may_run_on_a_gpu() -> None:
    """By known keys, in the precision of the network; TorchScript, Python and what stays on the CPU are left alone."""
    found = {}
    for name, config in adapted(accelerator="tensorrt", engine_cache="/cache").items():
        for accelerator in config.optimization.execution_accelerators.gpu_execution_accelerator:
            assert accelerator.name == "tensorrt"
            assert set(accelerator.parameters) == TENSORRT_KEYS
            assert accelerator.parameters["trt_engine_cache_path"] == "/cache"
            found[name] = accelerator.parameters["precision_mode"]
    assert found == {"network_onnx": "FP32", "network_fp16": "FP16"}


def test_engines_are_built_twice_at_most() -> None:
    """The warm-up begins with the largest batch and a single photo: every other lies between."""
    models = adapted(accelerator="tensorrt")
    assert [sample.batch_size for sample in models["network_onnx"].model_warmup] == [32, 1, 2, 4, 8]
    assert [sample.batch_size for sample in models["network_torchscript"].model_warmup] == [1, 2, 4, 8]


def test_the_cache_is_a_folder_of_the_server() -> None:
    """A relative one would lie wherever the server was started."""
    with pytest.raises(BuildError, match="absolute"):
        gpu.GpuOptions(engine_cache="engines")


def test_photos_for_dali_pass_a_door_and_batch_whatever_their_length() -> None:
    """Its door counts and refuses as that of `preprocess`; the default ensemble stays as it is."""
    models = adapted(preprocessing="dali")
    steps = [step.model_name for step in models["resnet50_dali"].ensemble_scheduling.step]
    assert steps == ["preprocess_check", "preprocess_dali", "network_onnx"]
    assert models["preprocess_check"].parameters["max_backlog"].string_value == "64"
    assert [step.model_name for step in models["resnet50"].ensemble_scheduling.step] == ["preprocess", "network_onnx"]
    dali = models["preprocess_dali"]
    assert (dali.backend, dali.instance_group[0].kind) == ("dali", pb.ModelInstanceGroup.KIND_GPU)
    assert (dali.input[0].data_type, list(dali.input[0].dims)) == (pb.TYPE_UINT8, [-1])
    assert dali.input[0].allow_ragged_batch
    assert dali.HasField("dynamic_batching")
    assert dali.parameters["recipe"].string_value == RECIPE.to_json()


def test_what_is_not_given_stays_as_it_was_built() -> None:
    """A later build without the flags keeps what the manifest records."""
    record = {"gpu": {"accelerator": "tensorrt", "preprocessing": "pillow", "engine_cache": "/engines"}}
    assert gpu.chosen(record, {"preprocessing": "dali"}) == gpu.GpuOptions("tensorrt", "dali")
    assert gpu.chosen({}, {}) == gpu.GpuOptions()
    written = {*dict(gpu.small_files(RECIPE, 32)), *(f"{name}/config.pbtxt" for name in adapted(preprocessing="dali"))}
    assert written > set(gpu.file_names(gpu.GpuOptions(preprocessing="dali")))


def test_pillow_takes_dali_away(tmp_path: Path) -> None:
    """Its models would keep the labels of a build before, and name the classes of another network wrongly."""
    found = weights.Weights("w", "test", "v1.5", {}, ("label",), RECIPE)
    options = pipeline.BuildOptions("w", weights.FileOptions(), ServingOptions(), tmp_path, tmp_path)
    record = {"versions": {"1": {"inputs": {"variants": [], "backbone": None}}}}
    for decoder in ("dali", "pillow"):
        chosen = dataclasses.asdict(gpu.GpuOptions(preprocessing=decoder))
        pipeline._publish(options, found, {}, record | {"gpu": chosen})
        there = {path.name for path in tmp_path.iterdir() if path.is_dir()}
        assert there & set(gpu.MODELS) == (set(gpu.MODELS) if decoder == "dali" else set())
    assert "resnet50" in there


@pytest.mark.parametrize("resize", [232, 256])
def test_dali_cuts_torchvisions_pixels(tmp_path: Path, photos: dict[str, Path], resize: int) -> None:
    """On its operators for CPUs; sides of all parities, where half a pixel is rounded to the even one."""
    dali = pytest.importorskip("nvidia.dali", reason="nvidia-dali-cuda120 is not installed")
    recipe = preprocessing.Recipe(resize=resize, crop=224)
    files = dict(gpu.small_files(recipe, max_batch_size=32))
    (tmp_path / "dali.py").write_text(files["preprocess_dali/1/dali.py"])
    (tmp_path / "recipe.json").write_text(files["preprocess_dali/1/recipe.json"])
    spec = importlib.util.spec_from_file_location("dali_pipeline", tmp_path / "dali.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    encoded = [*(path.read_bytes() for path in photos.values()), *odd_sides(tmp_path, photos["coffee"])]

    @dali.pipeline_def(batch_size=32, num_threads=2, device_id=None, prefetch_queue_depth=1)
    def on_the_cpu():
        data = dali.fn.external_source(name="ENCODED", dtype=dali.types.UINT8, ndim=1)
        return module.prepared(data, decoder="cpu", resize=resize, crop=224, interpolation="bilinear")

    pipeline = on_the_cpu(exec_async=False, exec_pipelined=False)
    pipeline.feed_input("ENCODED", [np.frombuffer(one, np.uint8) for one in encoded])
    (rows,) = pipeline.run()
    for row, one in zip(rows, encoded, strict=True):
        difference = np.abs(np.asarray(row).astype(int) - preprocessing.prepare(one, recipe))
        assert difference.max() <= 1
        assert difference.mean() < 0.25


def odd_sides(folder: Path, path: Path) -> list[bytes]:
    """The same photo in sizes whose crops begin at whole and at half pixels, as BMP."""
    found = []
    for width, height in ((300, 400), (401, 300), (640, 427), (333, 500), (500, 375)):
        Image.open(path).convert("RGB").resize((width, height)).save(folder / "odd.bmp")
        found.append((folder / "odd.bmp").read_bytes())
    return found


def test_the_pipeline_knows_the_recipe() -> None:
    """It is told in the file beside the pipeline, with the largest batch."""
    files = dict(gpu.small_files(RECIPE, max_batch_size=8))
    told = json.loads(files["preprocess_dali/1/recipe.json"])
    assert told == {"resize": 256, "crop": 224, "interpolation": "bilinear", "max_batch_size": 8}
    compile(files["preprocess_dali/1/dali.py"], "dali.py", "exec")
