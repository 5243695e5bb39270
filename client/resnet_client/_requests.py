"""What is asked of Triton and how its answers are read; knows tensors and JSON, but no protocol."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from resnet_client import _tensors
from resnet_client._exceptions import ResnetClientError, ResponseError
from resnet_client._results import Classification, ModelStatistics, Prediction
from resnet_client._tracing import SILENT, Span

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import numpy.typing as npt

IMAGE = "IMAGE"
PIXELS = "PIXELS__0"
PROBABILITIES = "PROBABILITIES__0"
FEATURES = "FEATURES__1"
MAPS = "MAPS__4"
MAP_SHAPES = {"C2": (256, 56, 56), "C3": (512, 28, 28), "C4": (1024, 14, 14), "C5": (2048, 7, 7)}
"""What ``MAPS__4`` holds, one after the other: channels, height, width."""

_RAW = 0  # a class count of zero asks for the tensor itself
_COMPUTING = ("compute_input", "compute_infer", "compute_output")
_DURATIONS = ("success", "queue", *_COMPUTING)


@dataclasses.dataclass(frozen=True)
class Call:
    """A question or an order, by tritonclient's name for it, and its arguments."""

    method: str
    arguments: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Inference:
    """One photo for one model.

    Attributes:
        model: the model asked.
        model_version: its version; empty for the server's choice.
        input_name: ``IMAGE`` or ``PIXELS__0``.
        tensor: object array of bytes, shape (1, 1), or uint8, shape (1, 224, 224, 3).
        output_name: ``PROBABILITIES__0`` or ``FEATURES__1``.
        class_count: how many classes to return; 0 returns the tensor itself.
        region: the shared memory that holds the tensor for the server; None if it travels with the request.
        span: of the call that it is sent for.
    """

    model: str
    model_version: str
    input_name: str
    tensor: npt.NDArray[Any] = dataclasses.field(repr=False)  # a photo does not belong into logs
    output_name: str
    class_count: int = _RAW
    region: str | None = None
    span: Span = dataclasses.field(default=SILENT, repr=False, compare=False)

    @property
    def datatype(self) -> str:
        """Triton's name of the tensor's type."""
        return "UINT8" if self.tensor.dtype == np.uint8 else "BYTES"

    @property
    def byte_size(self) -> int:
        """How long the tensor is as it travels."""
        return sum(map(len, _tensors.parts(self.tensor)))

    def content(self, before: bytes = b"") -> bytes:
        """The tensor as it travels, behind what stands before it."""
        return b"".join((before, *_tensors.parts(self.tensor)))

    def write_into(self, memory: memoryview) -> None:
        """Put the tensor where a server reads it, as it would travel."""
        start = 0
        for part in _tensors.parts(self.tensor):
            memory[start : start + len(part)] = part
            start += len(part)


Request: TypeAlias = Call | Inference


@dataclasses.dataclass(frozen=True)
class Answer:
    """The one output asked for, without its protocol."""

    output: npt.NDArray[Any] | None
    model: str
    model_version: str


def input_of(photo: bytes | npt.NDArray[np.uint8]) -> tuple[str, npt.NDArray[Any]]:
    """Name and tensor of the input: ``IMAGE`` for encoded bytes, ``PIXELS__0`` for pixels."""
    if isinstance(photo, bytes):
        return IMAGE, np.array([[photo]], dtype=np.object_)
    return PIXELS, photo[np.newaxis]


def read_classification(answer: Answer) -> Classification:
    """Read Triton's ``value:index:label`` strings.

    Raises:
        ResponseError: there are none, or they read otherwise.
    """
    if answer.output is None or answer.output.size == 0:
        raise ResponseError(f"{answer.model} answered without any class; look at the server's log")
    try:
        predictions = [_prediction(entry) for entry in answer.output.ravel()]
    except (ValueError, AttributeError) as exc:
        raise ResponseError(f"{answer.model} answered no 'value:index:label' strings: {exc}") from exc
    ordered = sorted(predictions, key=lambda prediction: -prediction.probability)
    return Classification(tuple(ordered), answer.model, answer.model_version)


def read_features(answer: Answer) -> npt.NDArray[np.float32]:
    """Read the feature vector, as an array of the caller's own.

    Raises:
        ResponseError: it is missing, empty, or has another shape.
    """
    output = answer.output
    if output is None or output.size == 0 or output.shape[:1] != (1,) or output.dtype.kind not in "fiu":
        shape = None if output is None else output.shape
        raise ResponseError(f"{answer.model} answered features of shape {shape} instead of (1, 2048)")
    return np.array(output.ravel(), dtype=np.float32)


def read_maps(answer: Answer) -> dict[str, npt.NDArray[np.floating[Any]]]:
    """Take the feature maps apart; each is an array of the caller's own.

    Raises:
        ResponseError: they are missing, or of another size.
    """
    output = answer.output
    lengths = [math.prod(shape) for shape in MAP_SHAPES.values()]
    if output is None or output.size != sum(lengths) or output.dtype.kind != "f":
        shape = None if output is None else output.shape
        raise ResponseError(f"{answer.model} answered feature maps of shape {shape} instead of (1, {sum(lengths)})")
    pieces = np.split(output.ravel(), np.cumsum(lengths)[:-1])
    return {name: piece.reshape(MAP_SHAPES[name]).copy() for name, piece in zip(MAP_SHAPES, pieces, strict=True)}


@contextlib.contextmanager
def readable(what: str) -> Iterator[None]:
    """Raise ResponseError where an answer's JSON is not built as Triton builds it."""
    try:
        yield
    except ResnetClientError:
        raise
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as exc:
        raise ResponseError(f"the server answered {what} that cannot be read ({type(exc).__name__}: {exc})") from exc


@readable("metadata")
def read_metadata(server: Mapping[str, Any], model: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    """One dictionary out of three answers, alike for gRPC and HTTP.

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


def _prediction(entry: bytes) -> Prediction:
    probability, index, *label = entry.decode().split(":", 2)
    if not (index.isdecimal() and math.isfinite(float(probability))):
        raise ValueError(f"{entry!r} is none")
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
