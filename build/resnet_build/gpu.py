"""What of a repository is for GPUs only: TensorRT inside ONNX Runtime, and photos that DALI decodes.

It is added to what :mod:`resnet_build.configs` renders. Every key is one that NVIDIA's backends read.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from resnet_client.preprocessing import Recipe
from tritonclient.grpc import model_config_pb2 as pb

from resnet_build import configs, python_models
from resnet_build.errors import BuildError
from resnet_build.options import known_fields
from resnet_build.schedule import largest_first, warmup
from resnet_build.tensors import ENCODED, IMAGE, PIXELS

DOOR, CHECK, DALI = MODELS = ("resnet50_dali", "preprocess_check", "preprocess_dali")

_PYTHON_MODELS = Path(__file__).parent / "python_models"
_ONNX_RUNTIME = "onnxruntime"
_HALF = "network_fp16"


@dataclasses.dataclass(frozen=True)
class GpuOptions:
    """What can be chosen.

    Attributes:
        accelerator: ``tensorrt`` has ONNX Runtime compute networks with TensorRT.
        preprocessing: ``dali`` adds an ensemble whose photos are decoded on the GPU.
        engine_cache: folder of the server for TensorRT's engines, which take minutes to build.
    """

    accelerator: str = "none"
    preprocessing: str = "pillow"
    engine_cache: str = "/engines"

    def __post_init__(self) -> None:
        if not Path(self.engine_cache).is_absolute():
            raise BuildError(f"--engine-cache {self.engine_cache}: the server needs the folder's absolute path")


def chosen(record: Mapping[str, Any], given: Mapping[str, str]) -> GpuOptions:
    """Read what a manifest records, as far as this version knows it, and put what was asked for in its place."""
    return GpuOptions(**{**known_fields(record.get("gpu", {}), GpuOptions), **given})


def adapt(rendered: Mapping[str, str], options: GpuOptions) -> dict[str, str]:
    """Change and complete rendered configurations.

    Args:
        rendered: model name → text of its ``config.pbtxt``.
        options: what is wanted.

    Returns:
        The same with what the options add.
    """
    models = {name: configs.parse(text) for name, text in rendered.items()}
    if options.accelerator == "tensorrt":
        for config in models.values():
            if config.backend == _ONNX_RUNTIME and config.instance_group[0].kind != pb.ModelInstanceGroup.KIND_CPU:
                _accelerate(config, options.engine_cache)
    if options.preprocessing == "dali":
        added = (_check(models), _dali(models), _door(models))
        models |= {config.name: config for config in added}
    return {name: configs.to_text_like(config, rendered[configs.PREPROCESS]) for name, config in models.items()}


def small_files(recipe: Recipe, max_batch_size: int) -> Iterator[tuple[str, str]]:
    """Yield what DALI's models need beside their configurations: path in the repository, and text."""
    for name, path in python_models.preprocess_check_files().items():
        yield f"{CHECK}/1/{name}", path.read_text(encoding="utf-8")
    yield f"{DALI}/1/dali.py", (_PYTHON_MODELS / "preprocess_dali/dali.py").read_text(encoding="utf-8")
    settings = dataclasses.asdict(recipe) | {"max_batch_size": max_batch_size}
    yield f"{DALI}/1/recipe.json", json.dumps(settings, sort_keys=True) + "\n"


def file_names(options: GpuOptions) -> tuple[str, ...]:
    """Return files, in addition to configs, without which the added models are not whole."""
    if options.preprocessing != "dali":
        return ()
    return (f"{CHECK}/1/model.py", f"{DALI}/1/dali.py", f"{DALI}/1/recipe.json")


def _accelerate(config: pb.ModelConfig, engine_cache: str) -> None:
    accelerator = config.optimization.execution_accelerators.gpu_execution_accelerator.add(name="tensorrt")
    # The float network stays float; half precision has a network, and a gate, of its own.
    accelerator.parameters["precision_mode"] = "FP16" if config.name == _HALF else "FP32"
    accelerator.parameters["trt_engine_cache_enable"] = "1"
    accelerator.parameters["trt_engine_cache_path"] = engine_cache
    accelerator.parameters["trt_timing_cache_enable"] = "1"
    accelerator.parameters["trt_timing_cache_path"] = engine_cache
    sizes = largest_first(config.max_batch_size, [sample.batch_size for sample in config.model_warmup])
    del config.model_warmup[:]
    config.model_warmup.extend(warmup(size) for size in sizes)


def _check(models: Mapping[str, pb.ModelConfig]) -> pb.ModelConfig:
    """The door of `preprocess`, with encoded photos as its output."""
    config = _copy(models[configs.PREPROCESS], CHECK)
    del config.output[:]
    config.output.add(name=ENCODED, data_type=pb.TYPE_UINT8, dims=[-1])
    return config


def _dali(models: Mapping[str, pb.ModelConfig]) -> pb.ModelConfig:
    preprocess, network = models[configs.PREPROCESS], models[configs.ENSEMBLES["resnet50"]]
    config = pb.ModelConfig(
        name=DALI,
        backend="dali",
        max_batch_size=preprocess.max_batch_size,
        # Photos have different lengths.
        input=[pb.ModelInput(name=ENCODED, data_type=pb.TYPE_UINT8, dims=[-1], allow_ragged_batch=True)],
        output=preprocess.output,
        # More than one would take memory for each, the backend's documentation says.
        instance_group=[pb.ModelInstanceGroup(kind=pb.ModelInstanceGroup.KIND_GPU, count=1)],
        dynamic_batching=network.dynamic_batching,
    )
    for name in preprocess.parameters:
        if not name.startswith(("max_backlog", "max_wait")):
            config.parameters[name].CopyFrom(preprocess.parameters[name])
    return config


def _door(models: Mapping[str, pb.ModelConfig]) -> pb.ModelConfig:
    config = _copy(models["resnet50"], DOOR)
    network = config.ensemble_scheduling.step[1]
    del config.ensemble_scheduling.step[:]
    step = config.ensemble_scheduling.step
    step.add(model_name=CHECK, model_version=-1, input_map={IMAGE: IMAGE}, output_map={ENCODED: ENCODED})
    step.add(model_name=DALI, model_version=-1, input_map={ENCODED: ENCODED}, output_map={PIXELS: PIXELS})
    step.append(network)
    return config


def _copy(config: pb.ModelConfig, name: str) -> pb.ModelConfig:
    copied = pb.ModelConfig()
    copied.CopyFrom(config)
    copied.name = name
    return copied
