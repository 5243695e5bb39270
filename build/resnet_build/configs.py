"""Triton's model configurations, rendered from Triton's own protobuf.

Every key is one that NVIDIA's C++ backends read: the same files are served by their container.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as pb

from resnet_build.errors import BuildError
from resnet_build.network import FEATURES as FEATURE_COUNT
from resnet_build.options import ServingOptions
from resnet_build.python_models.preprocess.photo import Limits, Recipe
from resnet_build.tensors import FEATURES, IMAGE, PIXELS, PROBABILITIES

LABELS_FILENAME = "labels.txt"
PREPROCESS = "preprocess"
# Ensemble → the network it ends in.
ENSEMBLES = {"resnet50": "network_onnx", "resnet50_torchscript": "network_torchscript"}
_BACKENDS = {
    "network_onnx": ("onnxruntime", "onnxruntime_onnx"),
    "network_torchscript": ("pytorch", "pytorch_libtorch"),
}
_VARIANTS_BACKEND = ("onnxruntime", "onnxruntime_onnx")
# On a GPU, ONNX Runtime would compute the integers in float, between copies to and from the CPU.
_ON_CPU = frozenset({"network_int8"})
# ONNX Runtime's backend reads the lower-case key, PyTorch's the upper-case one.
_THREAD_KEYS = {"onnxruntime": "intra_op_thread_count", "pytorch": "INTRA_OP_THREAD_COUNT"}

_HEADER = """\
# Rendered by resnet-build from Triton's protobuf; `resnet-build --help` lists what can be changed.
# What is absent has Triton's default: an instance group is KIND_AUTO (GPUs if there are any, else the CPU).
# No model has a queue policy: `preprocess` refuses what is too much (max_backlog; docs/serving.md tells why).
"""


def hash_labels(labels: Sequence[str]) -> str:
    """Return the hex SHA-256 of a label list."""
    return hashlib.sha256("\n".join(labels).encode()).hexdigest()


def ensembles(variants: Sequence[str] = ()) -> dict[str, str]:
    """Return ensemble → the network it ends in, those of the variants included."""
    return ENSEMBLES | {f"resnet50_{variant}": network_of(variant) for variant in variants}


def network_of(variant: str) -> str:
    """Return the name of a variant's network."""
    return f"network_{variant}"


def render_all(options: ServingOptions, recipe: Recipe, classes: int, variants: Sequence[str] = ()) -> dict[str, str]:
    """Render every model's configuration.

    Args:
        options: what of the serving can be chosen.
        recipe: how photos are prepared.
        classes: number of labels.
        variants: what is served beside the default networks.

    Returns:
        Model name → text of its ``config.pbtxt``.
    """
    configs = [_preprocess(options)]
    for ensemble, network in ensembles(variants).items():
        configs += [_network(network, options, classes), _ensemble(ensemble, network, options, classes)]
    rendered = {}
    for config in configs:
        config.parameters["recipe"].string_value = recipe.to_json()
        config.parameters["recipe_sha256"].string_value = recipe.sha256
        for name, value in options.photo_limits.to_parameters().items():
            config.parameters[name].string_value = value
        rendered[config.name] = _HEADER + text_format.MessageToString(config)
    return rendered


def parse(text: str) -> pb.ModelConfig:
    """Read a ``config.pbtxt``.

    Raises:
        BuildError: not a Triton configuration.
    """
    try:
        return text_format.Parse(text.encode(), pb.ModelConfig())
    except (text_format.ParseError, ValueError, RecursionError) as exc:
        raise BuildError(f"not a Triton model configuration: {exc}") from exc


def _preprocess(options: ServingOptions) -> pb.ModelConfig:
    config = pb.ModelConfig(
        name=PREPROCESS,
        backend="python",
        max_batch_size=options.max_batch_size,
        input=[_image()],
        output=[pb.ModelOutput(name=PIXELS, data_type=pb.TYPE_UINT8, dims=[224, 224, 3])],
        instance_group=[pb.ModelInstanceGroup(kind=pb.ModelInstanceGroup.KIND_CPU, count=options.preprocess_instances)],
        # One request at a time: Triton 2.51 lets pass a BYTES tensor that is shorter than it says, and its Python
        # backend then fails all requests of the batch. The batcher is here for its queue.
        dynamic_batching=pb.ModelDynamicBatching(preferred_batch_size=[1]),
    )
    config.parameters["max_backlog"].string_value = str(options.queue_size)
    config.parameters["max_wait_ms"].string_value = str(options.queue_timeout_ms)
    return config


def _network(name: str, options: ServingOptions, classes: int) -> pb.ModelConfig:
    backend, platform = _BACKENDS.get(name, _VARIANTS_BACKEND)
    kind = pb.ModelInstanceGroup.KIND_CPU if name in _ON_CPU else pb.ModelInstanceGroup.KIND_AUTO
    config = pb.ModelConfig(
        name=name,
        backend=backend,
        platform=platform,
        max_batch_size=options.max_batch_size,
        input=[pb.ModelInput(name=PIXELS, data_type=pb.TYPE_UINT8, dims=[224, 224, 3])],
        output=_outputs(classes),
        # The newest version beside the one before it, so that a roll-back is one request away.
        version_policy=pb.ModelVersionPolicy(latest=pb.ModelVersionPolicy.Latest(num_versions=2)),
        instance_group=[pb.ModelInstanceGroup(kind=kind, count=options.instances)],
        dynamic_batching=pb.ModelDynamicBatching(max_queue_delay_microseconds=options.max_queue_delay_us),
        model_warmup=[_warmup(size) for size in likely_batches(options.max_batch_size)],
    )
    if options.threads:
        config.parameters[_THREAD_KEYS[backend]].string_value = str(options.threads)
    return config


def _ensemble(name: str, network: str, options: ServingOptions, classes: int) -> pb.ModelConfig:
    step = pb.ModelEnsembling.Step
    return pb.ModelConfig(
        name=name,
        platform="ensemble",
        max_batch_size=options.max_batch_size,
        input=[_image()],
        output=_outputs(classes),
        ensemble_scheduling=pb.ModelEnsembling(
            step=[
                step(
                    model_name=PREPROCESS,
                    model_version=-1,
                    input_map={IMAGE: IMAGE},
                    output_map={PIXELS: PIXELS},
                ),
                step(
                    model_name=network,
                    model_version=-1,
                    input_map={PIXELS: PIXELS},
                    output_map={PROBABILITIES: PROBABILITIES, FEATURES: FEATURES},
                ),
            ]
        ),
    )


def _image() -> pb.ModelInput:
    return pb.ModelInput(name=IMAGE, data_type=pb.TYPE_STRING, dims=[1])


def _outputs(classes: int) -> list[pb.ModelOutput]:
    return [
        pb.ModelOutput(name=PROBABILITIES, data_type=pb.TYPE_FP32, dims=[classes], label_filename=LABELS_FILENAME),
        pb.ModelOutput(name=FEATURES, data_type=pb.TYPE_FP32, dims=[FEATURE_COUNT]),
    ]


def likely_batches(max_batch_size: int) -> list[int]:
    """Return the batch sizes worth warming up: the powers of two and the maximum."""
    powers = [1 << exponent for exponent in range(max_batch_size.bit_length())]
    return sorted({*powers, max_batch_size})


def _warmup(batch_size: int) -> pb.ModelWarmup:
    pixels = pb.ModelWarmup.Input(data_type=pb.TYPE_UINT8, dims=[224, 224, 3], random_data=True)
    return pb.ModelWarmup(name=f"batch_{batch_size}", batch_size=batch_size, inputs={PIXELS: pixels})


def recipe_of(config: pb.ModelConfig) -> Recipe:
    """Read the recipe that a configuration carries."""
    parameters: Mapping[str, pb.ModelParameter] = config.parameters
    return Recipe.from_json(parameters["recipe"].string_value)


def limits_of(config: pb.ModelConfig) -> Limits:
    """Read the limits on photos that a configuration carries."""
    return Limits.from_parameters({name: value.string_value for name, value in config.parameters.items()})
