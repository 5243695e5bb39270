"""The parts of a repository for GPUs only: TensorRT inside ONNX Runtime, and DALI, which decodes images.

They are added to the configs that :mod:`resnet_build.configs` renders. NVIDIA's backends read every key.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from resnet_client.preprocessing import PreprocessConfig
from resnet_client.requests import IMAGE, PIXELS
from tritonclient.grpc import model_config_pb2 as pb

from resnet_build import BuildError, configs, python_models
from resnet_build.serving_options import known_fields

ENSEMBLE, CHECK, DALI = MODELS = ("resnet50_dali", "preprocess_check", "preprocess_dali")

_ENCODED = "ENCODED"


@dataclasses.dataclass(frozen=True)
class GpuOptions:
    """Options of the build for GPU hosts.

    Attributes:
        accelerator: ``tensorrt``: ONNX Runtime runs the networks with TensorRT.
        preprocessing: ``dali`` adds an ensemble whose images the GPU decodes.
        engine_cache: folder on the server for TensorRT's engines, which take minutes to build.
    """

    accelerator: str = "none"
    preprocessing: str = "pillow"
    engine_cache: str = "/engines"

    def __post_init__(self) -> None:
        if not Path(self.engine_cache).is_absolute():
            raise BuildError(f"invalid --engine-cache {self.engine_cache}: expected an absolute path on the server")


def chosen(record: Mapping[str, Any], given: Mapping[str, str]) -> GpuOptions:
    """Return the options that a manifest records, replaced by those that were given."""
    return GpuOptions(**{**known_fields(record.get("gpu", {}), GpuOptions), **given})


def adapt(rendered: Mapping[str, str], options: GpuOptions) -> dict[str, str]:
    """Apply the options to rendered configs.

    Args:
        rendered: model name → text of its ``config.pbtxt``.
        options: what to add.

    Returns:
        Model name → text of its config, also of the models that the options add.
    """
    models = {name: configs.parse(text) for name, text in rendered.items()}
    if options.accelerator == "tensorrt":
        for config in models.values():
            if config.backend == "onnxruntime" and config.instance_group[0].kind != pb.ModelInstanceGroup.KIND_CPU:
                _accelerate(config, options.engine_cache)
    if options.preprocessing == "dali":
        added = (_check(models), _dali(models), _ensemble(models))
        models |= {config.name: config for config in added}
    return {name: configs.to_text(config) for name, config in models.items()}


def model_files(preprocess_config: PreprocessConfig, max_batch_size: int) -> dict[str, str]:
    """Return the files of DALI's models, without their configs: path in the repository → text."""
    settings = dataclasses.asdict(preprocess_config) | {"max_batch_size": max_batch_size}
    return {
        **{f"{CHECK}/1/{name}": path.read_text("utf-8") for name, path in python_models.check_files().items()},
        f"{DALI}/1/dali.py": python_models.DALI.read_text("utf-8"),
        f"{DALI}/1/preprocess_config.json": json.dumps(settings, sort_keys=True) + "\n",
    }


def _accelerate(config: pb.ModelConfig, engine_cache: str) -> None:
    accelerator = config.optimization.execution_accelerators.gpu_execution_accelerator.add(name="tensorrt")
    # The FP32 network stays FP32; half precision is a separate network with its own validation.
    accelerator.parameters["precision_mode"] = "FP16" if config.name == configs.network_of("fp16") else "FP32"
    for cache in ("engine", "timing"):
        accelerator.parameters[f"trt_{cache}_cache_enable"] = "1"
        accelerator.parameters[f"trt_{cache}_cache_path"] = engine_cache
    # The largest first: TensorRT builds a new engine for a batch outside the range of sizes seen so far.
    others = {1, *(sample.batch_size for sample in config.model_warmup)} - {config.max_batch_size}
    configs.set_warmup(config, [config.max_batch_size, *sorted(others)])


def _check(models: Mapping[str, pb.ModelConfig]) -> pb.ModelConfig:
    """The config of `preprocess`, with encoded images as its output."""
    config = _copy(models[configs.PREPROCESS], CHECK)
    del config.output[:]
    config.output.add(name=_ENCODED, data_type=pb.TYPE_UINT8, dims=[-1])
    return config


def _dali(models: Mapping[str, pb.ModelConfig]) -> pb.ModelConfig:
    preprocess, network = models[configs.PREPROCESS], models["network_onnx"]
    config = pb.ModelConfig(
        name=DALI,
        backend="dali",
        max_batch_size=preprocess.max_batch_size,
        # Encoded images have different lengths.
        input=[pb.ModelInput(name=_ENCODED, data_type=pb.TYPE_UINT8, dims=[-1], allow_ragged_batch=True)],
        output=preprocess.output,
        # The backend's documentation advises one: each instance takes memory of its own.
        instance_group=[pb.ModelInstanceGroup(kind=pb.ModelInstanceGroup.KIND_GPU, count=1)],
        dynamic_batching=network.dynamic_batching,
    )
    for name in preprocess.parameters:
        if not name.startswith(("max_queue_size", "max_wait")):
            config.parameters[name].CopyFrom(preprocess.parameters[name])
    return config


def _ensemble(models: Mapping[str, pb.ModelConfig]) -> pb.ModelConfig:
    config = _copy(models[configs.DEFAULT_MODEL], ENSEMBLE)
    network = config.ensemble_scheduling.step[1]
    del config.ensemble_scheduling.step[:]
    configs.add_step(config, CHECK, [IMAGE], [_ENCODED])
    configs.add_step(config, DALI, [_ENCODED], [PIXELS])
    config.ensemble_scheduling.step.append(network)
    return config


def _copy(config: pb.ModelConfig, name: str) -> pb.ModelConfig:
    copied = pb.ModelConfig()
    copied.CopyFrom(config)
    copied.name = name
    return copied
