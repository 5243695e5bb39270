"""Triton's model configurations, rendered from Triton's own protobuf.

Every key is one that NVIDIA's C++ backends read: the same files are served by their container.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

from google.protobuf import text_format
from resnet_client.instance_groups import set_instance_count
from resnet_client.named_configs import MADE_BY_BUILD, THREADS
from resnet_client.preprocessing import PreprocessConfig
from resnet_client.requests import FEATURES, IMAGE, PIXELS, PROBABILITIES
from tritonclient.grpc import model_config_pb2 as pb

from resnet_build.serving_options import PLAIN, ServingOptions

LABELS_FILENAME = "labels.txt"
PREPROCESS = "preprocess"
DEFAULT_MODEL = "resnet50"

_FEATURE_COUNT = 2048
# The feature maps of one image are 6 MB in 32 bits; those of a batch of 32 would be 200.
_BACKBONE_BATCH = 8


# 1: heuristic search. The default, exhaustive search, takes 0.5 to 1.1 s on an H200 whenever the batch size changes;
# heuristic search takes 0.15 s.
_ONNX_RUNTIME = {"cudnn_conv_algo_search": "1"}
# NVIDIA's backend executes batches of `max_batch_size` only, and refuses smaller ones without padding.
_OPENVINO = {"ENABLE_BATCH_PADDING": "YES"}
# Network → backend, and its parameters in every config.
_NETWORKS: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "network_onnx": ("onnxruntime", _ONNX_RUNTIME),
    "network_torchscript": ("pytorch", {}),
    "network_int8": ("openvino", _OPENVINO),
    "network_bf16": ("openvino", {**_OPENVINO, "HINT_BF16": "YES"}),
    "network_fp32": ("openvino", _OPENVINO),
    "network_fp16": ("onnxruntime", _ONNX_RUNTIME),
}
_PLATFORMS = {"onnxruntime": "onnxruntime_onnx", "pytorch": "pytorch_libtorch"}

_HEADER = f"""\
{MADE_BY_BUILD} from Triton's protobuf; `resnet-build --help` lists the options.
# Absent fields have Triton's defaults: an instance group is KIND_AUTO (GPUs if there are any, else the CPU).
# No model has a queue policy: `preprocess` refuses images under overload (max_queue_size; see docs/serving.md).
"""


def ensembles(variants: Sequence[str] = (), default: str = PLAIN) -> dict[str, str]:
    """Return ensemble → the network it uses.

    Args:
        variants: networks that are served in addition to the default ones.
        default: the network of ``resnet50``; if it is not ``onnx``, ``onnx`` gets an ensemble of its own.
    """
    own = [*variants] if default == PLAIN else [*variants, PLAIN]
    found = {DEFAULT_MODEL: network_of(default), "resnet50_torchscript": "network_torchscript"}
    return found | {ensemble_of(name): network_of(name) for name in own}


def ensemble_of(variant: str) -> str:
    """Return the name of a variant's own ensemble."""
    return f"{DEFAULT_MODEL}_{variant}"


def network_of(variant: str) -> str:
    """Return the name of a variant's network; ``onnx`` is the FP32 one."""
    return f"network_{variant}"


def render_all(
    options: ServingOptions,
    preprocess_config: PreprocessConfig,
    classes: int,
    variants: Sequence[str] = (),
    default: str = PLAIN,
) -> dict[str, str]:
    """Render every model's configuration.

    Args:
        options: numbers for serving.
        preprocess_config: how images are preprocessed.
        classes: number of labels.
        variants: networks that are served in addition to the default ones.
        default: the network of ``resnet50``.

    Returns:
        Model name → text of its ``config.pbtxt``.
    """
    served = ensembles(variants, default)
    pixels = (preprocess_config.crop, preprocess_config.crop, 3)
    configs = [_preprocess(options, pixels)]
    configs += [_network(network, pixels, classes) for network in dict.fromkeys(served.values())]
    configs += [_ensemble(ensemble, network, classes) for ensemble, network in served.items()]
    parameters = {
        "preprocessing": preprocess_config.to_json(),
        "preprocessing_sha256": preprocess_config.sha256,
        **options.image_limits.to_parameters(),
    }
    for config in configs:
        set_capacity(config, options)
        _set_parameters(config, parameters)
    return {config.name: to_text(config) for config in configs}


def set_capacity(config: pb.ModelConfig, options: ServingOptions) -> None:
    """Write batches, instances, threads and queue delay into the config of ``preprocess``, a network or an ensemble."""
    if config.name.endswith("_backbone"):
        largest = min(options.max_batch_size, _BACKBONE_BATCH)
        preferred = min(options.preferred_batch_size, largest)
        options = dataclasses.replace(options, max_batch_size=largest, preferred_batch_size=preferred)
    config.max_batch_size = options.max_batch_size
    if config.backend == "python":
        config.instance_group[0].count = options.preprocess_instances
        _set_parameters(config, {"max_queue_size": str(options.max_queue_size)})
    elif config.platform != "ensemble":
        set_instance_count(config, options.cpu_instances_of(config.backend))
        preferred = options.preferred_batch_of(config.backend)
        # Without a preferred size, Triton takes the largest.
        config.dynamic_batching.preferred_batch_size[:] = [preferred] if preferred < options.max_batch_size else []
        config.dynamic_batching.max_queue_delay_microseconds = options.max_queue_delay_us
        set_warmup(config, options.warmup_batches)
        if threads := options.instance_threads_of(config.backend):
            _set_parameters(config, {THREADS[config.backend]: str(threads)})


def set_warmup(config: pb.ModelConfig, batch_sizes: Iterable[int]) -> None:
    """Let Triton execute batches of random pixels, in this order, before a network is ready."""
    pixels = pb.ModelWarmup.Input(data_type=pb.TYPE_UINT8, dims=config.input[0].dims, random_data=True)
    del config.model_warmup[:]
    for size in batch_sizes:
        config.model_warmup.add(name=f"batch_{size}", batch_size=size, inputs={PIXELS: pixels})


def _set_parameters(config: pb.ModelConfig, values: Mapping[str, str]) -> None:
    for name, value in values.items():
        config.parameters[name].string_value = value


def to_text(config: pb.ModelConfig) -> str:
    """Write a ``config.pbtxt``."""
    text: str = text_format.MessageToString(config)
    return _HEADER + text


def parse(text: str) -> pb.ModelConfig:
    """Read a ``config.pbtxt`` that was rendered."""
    return text_format.Parse(text, pb.ModelConfig())


def _preprocess(options: ServingOptions, pixels: Sequence[int]) -> pb.ModelConfig:
    config = pb.ModelConfig(
        name=PREPROCESS,
        backend="python",
        input=[_image()],
        output=[pb.ModelOutput(name=PIXELS, data_type=pb.TYPE_UINT8, dims=pixels)],
        instance_group=[pb.ModelInstanceGroup(kind=pb.ModelInstanceGroup.KIND_CPU)],
        # No dynamic batching: Triton 2.51 accepts a BYTES tensor that is shorter than its header states, and its
        # Python backend then fails all requests of the batch.
    )
    _set_parameters(config, {"max_wait_ms": str(options.max_wait_ms)})
    return config


def _network(name: str, pixels: Sequence[int], classes: int) -> pb.ModelConfig:
    backend, parameters = _NETWORKS[name]
    is_openvino = backend == "openvino"
    kind = pb.ModelInstanceGroup.KIND_CPU if is_openvino else pb.ModelInstanceGroup.KIND_AUTO
    config = pb.ModelConfig(
        name=name,
        backend=backend,
        platform=_PLATFORMS.get(backend, ""),
        default_model_filename="model.onnx" if is_openvino else "",
        input=[pb.ModelInput(name=PIXELS, data_type=pb.TYPE_UINT8, dims=pixels)],
        output=_outputs(classes),
        # The newest version and the one before it, so that a rollback is one request away.
        version_policy=pb.ModelVersionPolicy(latest=pb.ModelVersionPolicy.Latest(num_versions=2)),
        instance_group=[pb.ModelInstanceGroup(kind=kind)],
        dynamic_batching=pb.ModelDynamicBatching(),
    )
    _set_parameters(config, parameters)
    return config


def _ensemble(name: str, network: str, classes: int) -> pb.ModelConfig:
    config = pb.ModelConfig(name=name, platform="ensemble", input=[_image()], output=_outputs(classes))
    add_step(config, PREPROCESS, [IMAGE], [PIXELS])
    add_step(config, network, [PIXELS], [PROBABILITIES, FEATURES])
    return config


def add_step(ensemble: pb.ModelConfig, model: str, inputs: Iterable[str], outputs: Iterable[str]) -> None:
    """Add the newest version of a model, whose tensors have the same names in the ensemble."""
    ensemble.ensemble_scheduling.step.add(
        model_name=model,
        model_version=-1,
        input_map={name: name for name in inputs},
        output_map={name: name for name in outputs},
    )


def _image() -> pb.ModelInput:
    return pb.ModelInput(name=IMAGE, data_type=pb.TYPE_STRING, dims=[1])


def _outputs(classes: int) -> list[pb.ModelOutput]:
    return [
        pb.ModelOutput(name=PROBABILITIES, data_type=pb.TYPE_FP32, dims=[classes], label_filename=LABELS_FILENAME),
        pb.ModelOutput(name=FEATURES, data_type=pb.TYPE_FP32, dims=[_FEATURE_COUNT]),
    ]
