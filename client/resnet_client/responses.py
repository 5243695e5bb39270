"""Read Triton's responses into results: pure functions over tensors and JSON, independent of the protocol."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from resnet_client import preprocessing
from resnet_client.errors import ConfigurationError, ModelNotFoundError, ResnetClientError, ResponseError
from resnet_client.requests import PIXELS, Target, map_shapes
from resnet_client.results import Classification, ModelStatistics, Prediction

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import numpy.typing as npt

    from resnet_client.pool import Server

_COMPUTING = ("compute_input", "compute_infer", "compute_output")
# Rounding may raise a softmax in low precision above 1.
_LARGEST_PROBABILITY = 1.001
_DURATIONS = ("success", "queue", *_COMPUTING)


@dataclasses.dataclass(frozen=True)
class PixelTarget:
    """The network behind a model, and how images are prepared for it."""

    target: Target
    preprocess_config: preprocessing.PreprocessConfig
    limits: preprocessing.Limits


@dataclasses.dataclass(frozen=True)
class Answer:
    """The one output of an inference, without its protocol."""

    output: npt.NDArray[Any] | None
    model: str
    model_version: str


def check_ready(found: Mapping[str, Any], server: Server, target: Target) -> None:
    """Raise ``ModelNotFoundError`` if the answers to :meth:`Target.health_calls` show that the model is not ready."""
    if not found["model_ready"]:
        raise ModelNotFoundError(f"{server.endpoint}: {target.model} is not served, or not ready yet")


def read_classification(answer: Answer, class_count: int) -> Classification:
    """Read Triton's ``probability:index:label`` strings.

    Args:
        answer: the response.
        class_count: how many classes were requested.

    Raises:
        ResponseError: there are none, or more than requested, or they have another format.
    """
    if answer.output is None or answer.output.size == 0:
        raise ResponseError(f"{answer.model} returned no class; see the server's log")
    if answer.output.size > class_count:
        raise ResponseError(f"{answer.model} returned {answer.output.size} classes, but {class_count} were requested")
    try:
        predictions = [_prediction(entry) for entry in answer.output.ravel()]
    except (ValueError, AttributeError) as exc:
        raise ResponseError(
            f"{answer.model} returned an invalid class ({exc}); expected 'probability:index:label'"
        ) from exc
    ordered = sorted(predictions, key=lambda prediction: -prediction.probability)
    return Classification(tuple(ordered), answer.model, answer.model_version)


def read_features(answer: Answer) -> npt.NDArray[np.float32]:
    """Read the feature vector into a new array.

    Raises:
        ResponseError: it is missing, empty, or has another shape.
    """
    output = answer.output
    if output is None or output.size == 0 or output.shape[:1] != (1,) or output.dtype.kind not in "fiu":
        shape = None if output is None else output.shape
        raise ResponseError(f"{answer.model} returned features of shape {shape}, expected (1, 2048)")
    return np.array(output.ravel(), dtype=np.float32)


def read_maps(answer: Answer) -> dict[str, npt.NDArray[np.floating[Any]]]:
    """Split the feature maps; each is a new array.

    Raises:
        ResponseError: they are missing, or of another size.
    """
    output = answer.output
    shapes = None if output is None else _shapes_of_maps(output.size)
    if output is None or shapes is None or output.dtype.kind != "f":
        shape = None if output is None else output.shape
        raise ResponseError(f"{answer.model} returned feature maps of shape {shape}; expected (1, 1505280)")
    pieces = np.split(output.ravel(), np.cumsum([math.prod(shape) for shape in shapes.values()])[:-1])
    return {name: piece.reshape(shapes[name]).copy() for name, piece in zip(shapes, pieces, strict=True)}


def _shapes_of_maps(length: int) -> dict[str, tuple[int, int, int]] | None:
    """Return the shapes of maps that have this many values together; None if no image size gives them."""
    # C2 to C5 have 480 values for each position of C2, or a few more where a side is rounded up.
    for side in range(math.isqrt(length // 480), 0, -1):
        shapes = map_shapes(4 * side)
        total = sum(map(math.prod, shapes.values()))
        if total <= length:
            return shapes if total == length else None
    return None


@contextlib.contextmanager
def readable(what: str) -> Iterator[None]:
    """Raise ResponseError if a response's JSON does not have Triton's structure."""
    try:
        yield
    except ResnetClientError:
        raise
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as exc:
        raise ResponseError(f"the server returned {what} that cannot be read ({type(exc).__name__}: {exc})") from exc


@readable("metadata")
def read_metadata(server: Mapping[str, Any], model: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    """Merge three responses into one dictionary, the same for gRPC and HTTP.

    Raises:
        ResponseError: they cannot be read.
    """
    return {
        "server": {
            "name": server.get("name", ""),
            "version": server.get("version", ""),
            "extensions": list(server.get("extensions", [])),
        },
        "model": {
            "name": model.get("name", ""),
            "versions": list(model.get("versions", [])),
            "platform": model.get("platform", ""),
            "max_batch_size": int(config.get("max_batch_size", 0)),
            "inputs": [_tensor(tensor) for tensor in model.get("inputs", [])],
            "outputs": [_tensor(tensor) for tensor in model.get("outputs", [])],
            "parameters": parameters_of(config),
        },
    }


@readable("statistics")
def read_statistics(answer: Mapping[str, Any]) -> tuple[ModelStatistics, ...]:
    """Triton's statistics, ordered by model and version.

    Raises:
        ResponseError: they cannot be read.
    """
    entries = [_statistics(entry) for entry in answer.get("model_stats", [])]
    return tuple(sorted(entries, key=lambda entry: (entry.model, entry.model_version)))


@readable("a config")
def parameters_of(config: Mapping[str, Any]) -> dict[str, str]:
    """The ``parameters`` of a model's config as plain strings.

    Raises:
        ResponseError: they cannot be read.
    """
    parameters = config.get("parameters", {})
    return {name: str(value.get("string_value", "")) for name, value in sorted(parameters.items())}


@readable("a config")
def read_pixel_target(config: Mapping[str, Any], target: Target) -> PixelTarget:
    """Read from a model's config the network that takes pixels, and how to compute them.

    Raises:
        ConfigurationError: the config has no valid preprocessing config.
        ResponseError: the config cannot be read.
    """
    try:
        preprocess_config, limits = _preprocessing(parameters_of(config))
    except (KeyError, ValueError) as exc:
        raise ConfigurationError(
            f"the config of {target.model} has no valid preprocessing config ({exc}); use preprocessing='server'"
        ) from exc
    for step in config.get("ensemble_scheduling", {}).get("step", []):
        if PIXELS in step.get("input_map", {}):
            version = int(step.get("model_version", -1))
            network = dataclasses.replace(
                target, model=step["model_name"], model_version=str(version) if version > 0 else ""
            )
            return PixelTarget(network, preprocess_config, limits)
    return PixelTarget(target, preprocess_config, limits)


def _preprocessing(parameters: Mapping[str, str]) -> tuple[preprocessing.PreprocessConfig, preprocessing.Limits]:
    found = preprocessing.PreprocessConfig.from_json(parameters["preprocessing"])
    if parameters.get("preprocessing_sha256") != found.sha256:
        raise ValueError("it does not match its hash; build the model repository again")
    return found, preprocessing.Limits.from_parameters(parameters)


def _prediction(entry: bytes) -> Prediction:
    probability, index, *label = entry.decode().split(":", 2)
    if not index.isdecimal():
        raise ValueError(repr(entry))
    if not 0 <= float(probability) <= _LARGEST_PROBABILITY:
        raise ValueError(f"the probability {probability} is not between 0 and 1")
    return Prediction(int(index), label[0] if label and label[0] else index, float(probability))


def _tensor(tensor: Mapping[str, Any]) -> dict[str, Any]:
    # gRPC's JSON writes 64-bit integers as strings
    shape = [int(size) for size in tensor.get("shape", [])]
    return {"name": tensor["name"], "datatype": tensor["datatype"], "shape": shape}


def _statistics(entry: Mapping[str, Any]) -> ModelStatistics:
    # gRPC's JSON leaves zeros out
    durations = entry.get("inference_stats", {})
    batches = entry.get("batch_stats", [])
    return ModelStatistics(
        model=str(entry["name"]),
        model_version=str(entry.get("version", "")),
        inference_count=int(entry.get("inference_count", 0)),
        execution_count=int(entry.get("execution_count", 0)),
        success_count=int(durations.get("success", {}).get("count", 0)),
        failure_count=int(durations.get("fail", {}).get("count", 0)),
        failure_ns=int(durations.get("fail", {}).get("ns", 0)),
        **{f"{name}_ns": int(durations.get(name, {}).get("ns", 0)) for name in _DURATIONS},
        busy_ns=sum(int(batch.get(part, {}).get("ns", 0)) for batch in batches for part in _COMPUTING),
        batch_sizes={
            int(batch["batch_size"]): int(batch.get("compute_infer", {}).get("count", 0)) for batch in batches
        },
    )
