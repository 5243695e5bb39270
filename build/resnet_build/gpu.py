"""The model config `gpu`: defaults for GPU hosts, the network of `resnet50` there, and DALI, which decodes images.

ONNX Runtime's CUDA provider plans all convolutions again when the batch size changes, and a dynamic batcher changes it
all the time. So `resnet50` uses TorchScript, which keeps the plans of every size, or TensorRT, with one engine for all
sizes, whatever it uses on a CPU. NVIDIA's backends read every key.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from resnet_client import example_images
from resnet_client.instance_groups import set_instance_count
from resnet_client.preprocessing import PreprocessConfig, available_cpus
from resnet_client.requests import IMAGE, PIXELS
from tritonclient.grpc import model_config_pb2 as pb

from resnet_build import BuildError, configs, python_models
from resnet_build.serving_options import PLAIN, ServingOptions, known_fields

ENSEMBLE, CHECK, DALI = MODELS = ("resnet50_dali", "preprocess_check", "preprocess_dali")

_ENCODED = "ENCODED"


@dataclasses.dataclass(frozen=True)
class GpuOptions:
    """Options of the build for GPU hosts.

    Attributes:
        gpu_engine: ``torchscript``, or ``tensorrt``: ONNX Runtime runs the ONNX networks with TensorRT.
        preprocessing: ``dali`` adds an ensemble whose images the GPU decodes.
        engine_cache: folder on the server for TensorRT's engines, which take minutes to build.
    """

    gpu_engine: str = "torchscript"
    preprocessing: str = "pillow"
    engine_cache: str = "/engines"

    def __post_init__(self) -> None:
        if not Path(self.engine_cache).is_absolute():
            raise BuildError(f"invalid --engine-cache {self.engine_cache}: expected an absolute path on the server")


def chosen(record: Mapping[str, Any], given: Mapping[str, str]) -> GpuOptions:
    """Return the options that a manifest records, replaced by those that were given."""
    return GpuOptions(**{**known_fields(record.get("gpu", {}), GpuOptions), **given})


def serving(options: ServingOptions) -> ServingOptions:
    """Return the options for GPU hosts: those that have their defaults get others; docs/gpu.md has the reasons."""
    others = {
        "max_batch_size": 128,
        "warmup_batch": 128,
        "instances": 2,
        # Two CPUs are left for the server and the network's instances; 64 processes decode more than a GPU computes.
        "preprocess_instances": min(max(1, available_cpus() - 2), 64),
    }
    defaults = ServingOptions()
    changed = {name: value for name, value in others.items() if getattr(options, name) == getattr(defaults, name)}
    return dataclasses.replace(options, **changed)


def adapt(rendered: Mapping[str, str], serving_options: ServingOptions, options: GpuOptions) -> dict[str, str]:
    """Change the configs of a repository for GPU hosts.

    Args:
        rendered: model name → text of its config.
        serving_options: from which they were rendered.
        options: what to change and add.

    Returns:
        Model name → text of its config, also of the models that the options add.
    """
    models = {name: configs.parse(text) for name, text in rendered.items()}
    has_tensorrt = options.gpu_engine == "tensorrt"
    of_onnx = next(name for name in map(configs.network_of, ("fp16", PLAIN)) if name in models)
    models[configs.DEFAULT_MODEL].ensemble_scheduling.step[-1].model_name = (
        of_onnx if has_tensorrt else "network_torchscript"
    )
    called = {step.model_name for config in models.values() for step in config.ensemble_scheduling.step}
    for config in models.values():
        if config.backend == "onnxruntime" and config.instance_group[0].kind != pb.ModelInstanceGroup.KIND_CPU:
            if not serving_options.preferred_batch_size:
                del config.dynamic_batching.preferred_batch_size[:]
            if config.name not in called:  # as little memory and time of a start as possible
                set_instance_count(config, 1)
                configs.set_warmup(config, [1])
            elif has_tensorrt:
                _accelerate(config, options.engine_cache)
    if options.preprocessing == "dali":
        added = (_check(models), _dali(models), _ensemble(models))
        models |= {config.name: config for config in added}
    return {name: configs.to_text(config) for name, config in models.items()}


def model_files(preprocess_config: PreprocessConfig, options: ServingOptions) -> dict[str, str]:
    """Return the text files of DALI's models, without their configs: path in the repository → text."""
    settings = dataclasses.asdict(preprocess_config) | {"max_batch_size": serving(options).max_batch_size}
    return {f"{DALI}/1/preprocess_config.json": json.dumps(settings, sort_keys=True) + "\n"}


def files() -> dict[str, Path]:
    """Return the other files of DALI's models: path in the repository → source."""
    check = {f"{CHECK}/1/{name}": path for name, path in python_models.check_files().items()}
    image = warmup_image()
    return check | {f"{DALI}/1/dali.py": python_models.DALI, f"{DALI}/warmup/{image.name}": image}


def warmup_image() -> Path:
    """Return the JPEG that warms up DALI's decoders; the build copies it to the model's folder ``warmup``."""
    return next(path for path in example_images.everyday() if path.suffix == ".jpg")


def _accelerate(config: pb.ModelConfig, engine_cache: str) -> None:
    accelerator = config.optimization.execution_accelerators.gpu_execution_accelerator.add(name="tensorrt")
    # For TensorRT 10; TensorRT 11 takes the precision from the network.
    accelerator.parameters["precision_mode"] = "FP16" if config.name == configs.network_of("fp16") else "FP32"
    for cache in ("engine", "timing"):
        accelerator.parameters[f"trt_{cache}_cache_enable"] = "1"
        accelerator.parameters[f"trt_{cache}_cache_path"] = engine_cache
    # One engine for all batch sizes; without a range, TensorRT builds another for each size outside those seen so far.
    for bound, batch in (("min", 1), ("opt", config.max_batch_size), ("max", config.max_batch_size)):
        shape = "x".join(map(str, (batch, *config.input[0].dims)))
        accelerator.parameters[f"trt_profile_{bound}_shapes"] = f"{config.input[0].name}:{shape}"


def _check(models: Mapping[str, pb.ModelConfig]) -> pb.ModelConfig:
    """The config of `preprocess`, with encoded images as its output."""
    config = _copy(models[configs.PREPROCESS], CHECK)
    # Most images are only checked, which takes a twentieth of decoding.
    config.instance_group[0].count = max(1, config.instance_group[0].count // 4)
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
    image = warmup_image()
    encoded = pb.ModelWarmup.Input(data_type=pb.TYPE_UINT8, dims=[image.stat().st_size], input_data_file=image.name)
    config.model_warmup.add(name="jpeg", batch_size=1, inputs={_ENCODED: encoded})
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
