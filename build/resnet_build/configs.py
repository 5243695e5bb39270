"""Triton's model configurations, rendered from Triton's own protobuf.

Every key is one that NVIDIA's C++ backends read: the same files are served by their container.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence

from google.protobuf import text_format
from resnet_client.model_configs import MADE_BY_BUILD
from resnet_client.preprocessing import Recipe
from tritonclient.grpc import model_config_pb2 as pb

from resnet_build.errors import BuildError
from resnet_build.options import PLAIN, ServingOptions
from resnet_build.schedule import schedule
from resnet_build.tensors import FEATURE_COUNT, FEATURES, IMAGE, IMAGENET_CLASSES, PIXELS, PROBABILITIES

LABELS_FILENAME = "labels.txt"
DEFAULT_RECIPE = Recipe(resize=232, crop=224)
PREPROCESS = "preprocess"
DOOR = "resnet50"
# Ensemble → the network it ends in, where nothing else was decided.
ENSEMBLES = {DOOR: "network_onnx", "resnet50_torchscript": "network_torchscript"}


@dataclasses.dataclass(frozen=True)
class _Engine:
    """What executes a network.

    Attributes:
        backend: Triton's name.
        platform: Triton's other name of it; empty where there is none.
        filename: of the artifact, where it is not the backend's default.
        parameters: what the backend must be told always.
        on_cpu: whether it must stay on the CPU.
    """

    backend: str
    platform: str
    filename: str = ""
    parameters: Mapping[str, str] = dataclasses.field(default_factory=dict)
    on_cpu: bool = False


_ONNX_RUNTIME = _Engine(
    "onnxruntime",
    "onnxruntime_onnx",
    # Heuristic. The default tries all algorithms whenever a batch has a new size: 0.5 to 1.1 s on an H200, not 0.15 s.
    parameters={"cudnn_conv_algo_search": "1"},
)
_TORCH = _Engine("pytorch", "pytorch_libtorch")
_OPENVINO = _Engine(
    "openvino",
    "",
    filename="model.onnx",
    # NVIDIA's backend executes `max_batch_size` only, and would refuse smaller batches.
    parameters={"NUM_STREAMS": "1", "ENABLE_BATCH_PADDING": "YES"},
    on_cpu=True,
)
_ENGINES = {
    "network_onnx": _ONNX_RUNTIME,
    "network_torchscript": _TORCH,
    "network_int8": _OPENVINO,
    "network_bf16": dataclasses.replace(_OPENVINO, parameters={**_OPENVINO.parameters, "HINT_BF16": "YES"}),
    "network_fp32": _OPENVINO,
    "network_fp16": _ONNX_RUNTIME,
}

_HEADER = f"""\
{MADE_BY_BUILD} from Triton's protobuf; `resnet-build --help` lists what can be changed.
# What is absent has Triton's default: an instance group is KIND_AUTO (GPUs if there are any, else the CPU).
# No model has a queue policy: `preprocess` refuses what is too much (max_backlog; docs/serving.md tells why).
"""


def hash_labels(labels: Sequence[str]) -> str:
    """Return the hex SHA-256 of a label list."""
    return hashlib.sha256("\n".join(labels).encode()).hexdigest()


def ensembles(variants: Sequence[str] = (), door: str = PLAIN) -> dict[str, str]:
    """Return ensemble → the network it ends in.

    Args:
        variants: what is served beside the default networks.
        door: which network the default door ends in; if it is not ``onnx``, that one gets a door of its own.
    """
    own = [*variants] if door == PLAIN else [*variants, PLAIN]
    return {**ENSEMBLES, DOOR: network_of(door)} | {ensemble_of(name): network_of(name) for name in own}


def ensemble_of(variant: str) -> str:
    """Return the name of a variant's own door."""
    return f"{DOOR}_{variant}"


def network_of(variant: str) -> str:
    """Return the name of a variant's network; ``onnx`` is the float one."""
    return f"network_{variant}"


def render_all(
    options: ServingOptions,
    recipe: Recipe,
    classes: int,
    variants: Sequence[str] = (),
    door: str = PLAIN,
) -> dict[str, str]:
    """Render every model's configuration.

    Args:
        options: what of the serving can be chosen.
        recipe: how photos are prepared.
        classes: number of labels.
        variants: what is served beside the default networks.
        door: which network the default door ends in.

    Returns:
        Model name → text of its ``config.pbtxt``.
    """
    configs = [_preprocess(options)]
    served = ensembles(variants, door)
    configs += [_network(network, classes) for network in dict.fromkeys(served.values())]
    configs += [_ensemble(ensemble, network, classes) for ensemble, network in served.items()]
    rendered = {}
    for config in configs:
        schedule(config, options)
        config.parameters["recipe"].string_value = recipe.to_json()
        config.parameters["recipe_sha256"].string_value = recipe.sha256
        for name, value in options.photo_limits.to_parameters().items():
            config.parameters[name].string_value = value
        rendered[config.name] = to_text(config)
    return rendered


def render_default() -> dict[str, str]:
    """Render the configs of the default networks with torchvision's weights and default options, as committed."""
    return render_all(ServingOptions(), DEFAULT_RECIPE, IMAGENET_CLASSES)


def to_text(config: pb.ModelConfig) -> str:
    """Write a ``config.pbtxt``."""
    text: str = text_format.MessageToString(config)
    return _HEADER + text


def to_text_like(config: pb.ModelConfig, other: str) -> str:
    """Write a ``config.pbtxt`` with the comments that stand above another one."""
    comments = "".join(line for line in other.splitlines(keepends=True) if line.startswith("#"))
    text: str = text_format.MessageToString(config)
    return comments + text


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
        input=[_image()],
        output=[pb.ModelOutput(name=PIXELS, data_type=pb.TYPE_UINT8, dims=[224, 224, 3])],
        instance_group=[pb.ModelInstanceGroup(kind=pb.ModelInstanceGroup.KIND_CPU)],
        # One request at a time: Triton 2.51 lets pass a BYTES tensor that is shorter than it says, and its Python
        # backend then fails all requests of the batch. The batcher is here for its queue.
        dynamic_batching=pb.ModelDynamicBatching(preferred_batch_size=[1]),
    )
    config.parameters["max_wait_ms"].string_value = str(options.queue_timeout_ms)
    return config


def _network(name: str, classes: int) -> pb.ModelConfig:
    engine = _ENGINES[name]
    kind = pb.ModelInstanceGroup.KIND_CPU if engine.on_cpu else pb.ModelInstanceGroup.KIND_AUTO
    config = pb.ModelConfig(
        name=name,
        backend=engine.backend,
        platform=engine.platform,
        default_model_filename=engine.filename,
        input=[pb.ModelInput(name=PIXELS, data_type=pb.TYPE_UINT8, dims=[224, 224, 3])],
        output=_outputs(classes),
        # The newest version beside the one before it, so that a roll-back is one request away.
        version_policy=pb.ModelVersionPolicy(latest=pb.ModelVersionPolicy.Latest(num_versions=2)),
        instance_group=[pb.ModelInstanceGroup(kind=kind)],
        dynamic_batching=pb.ModelDynamicBatching(),
    )
    for key, value in engine.parameters.items():
        config.parameters[key].string_value = value
    return config


def _ensemble(name: str, network: str, classes: int) -> pb.ModelConfig:
    step = pb.ModelEnsembling.Step
    return pb.ModelConfig(
        name=name,
        platform="ensemble",
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
