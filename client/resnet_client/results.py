"""Results: predictions, outcomes of many images, health and statistics."""

from __future__ import annotations

import collections
import dataclasses
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from resnet_client.errors import OverloadedError, ServerError
from resnet_client.images import describe

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from resnet_client.errors import ResnetClientError
    from resnet_client.images import ImageSource

T_co = TypeVar("T_co", covariant=True)

_SHOWN_IN_REPR = 3
_MOST_FAILED_IN_A_ROW = 16


@dataclasses.dataclass(frozen=True, slots=True)
class Prediction:
    """One class with its probability.

    Attributes:
        index: number of the class, 0 to classes - 1; its identity, because labels may repeat (ImageNet has
            two classes ``crane``).
        label: its name in the label file of the model; the index as text if there is none.
        probability: 0 to 1, with the six decimals the server sends.
    """

    index: int
    label: str
    probability: float

    def to_dict(self) -> dict[str, Any]:
        """The three fields, ready for JSON."""
        return dataclasses.asdict(self)


@dataclasses.dataclass(frozen=True, slots=True, repr=False)
class Classification:
    """The most probable classes of one image.

    Attributes:
        predictions: ``top_k`` of them (fewer if the model has fewer classes), most probable first.
        model: name of the model that answered.
        model_version: its version.
    """

    predictions: tuple[Prediction, ...]
    model: str
    model_version: str

    @property
    def top(self) -> Prediction:
        """The most probable class."""
        return self.predictions[0]

    def to_dict(self) -> dict[str, Any]:
        """Nested dictionaries and lists, ready for JSON."""
        return {
            "model": self.model,
            "model_version": self.model_version,
            "predictions": [prediction.to_dict() for prediction in self.predictions],
        }

    def __repr__(self) -> str:
        shown = ", ".join(f"{p.label!r} {p.probability:.3f}" for p in self.predictions[:_SHOWN_IN_REPR])
        more = ", …" if len(self.predictions) > _SHOWN_IN_REPR else ""
        return f"<Classification {shown}{more} · {self.model} version {self.model_version}>"


@dataclasses.dataclass(frozen=True, slots=True, repr=False)
class Outcome(Generic[T_co]):
    """The outcome of one image of many: a result, or an error.

    Attributes:
        source: the image as it was passed in.
        error: why the image failed; None if there is a result.
        duration_s: seconds from reading the image to its response, attempts and pauses included.
    """

    source: ImageSource
    _result: T_co | None = None
    error: ResnetClientError | None = None
    duration_s: float = dataclasses.field(default=0.0, compare=False)

    @property
    def ok(self) -> bool:
        """Whether there is a result."""
        return self.error is None

    @property
    def result(self) -> T_co:
        """A :class:`Classification`, or a feature vector (float32, shape (2048,)).

        Raises:
            ResnetClientError: the image failed; it is ``error``.
        """
        if self.error is not None:
            raise self.error
        return cast("T_co", self._result)

    def __repr__(self) -> str:
        # The image may be megabytes, which do not belong into logs.
        found = f"result={self.result!r}" if self.ok else f"error={self.error!r}"
        return f"<Outcome of {describe(self.source)}: {found} in {self.duration_s:.3f} s>"


def until_server_fails(outcomes: Iterator[Outcome[T_co]]) -> Iterator[Outcome[T_co]]:
    """Pass outcomes on until so many in a row have failed because of the server that the others would, too.

    Raises:
        ServerError: the last of these failures.
    """
    failed_in_a_row = 0
    for outcome in outcomes:
        yield outcome
        if isinstance(outcome.error, OverloadedError) or not isinstance(outcome.error, ServerError):
            failed_in_a_row = 0
            continue
        failed_in_a_row += 1
        if failed_in_a_row == _MOST_FAILED_IN_A_ROW:
            raise outcome.error


@dataclasses.dataclass(frozen=True, slots=True)
class Health:
    """Health of a server and a model: the server's ready flags, and the result of a test image.

    A model can be flagged ready although its process is dead; a test image shows that.

    Attributes:
        server_live: the server reports that it is live.
        server_ready: the server reports that all its models are ready.
        model_ready: the server reports that this model is ready.
        answer: result of a small test image; None if the model did not answer.
        error: the first failure; None if there is none.
    """

    server_live: bool = False
    server_ready: bool = False
    model_ready: bool = False
    answer: Classification | None = None
    error: ServerError | None = None

    @property
    def ok(self) -> bool:
        """Whether the model is ready and has classified the test image."""
        return self.model_ready and self.answer is not None


@dataclasses.dataclass(frozen=True, slots=True)
class ModelStatistics:
    """The server's own counts for one version of one model, since it was loaded.

    They may lag the last response by some milliseconds. Times are sums in nanoseconds over ``success_count``
    requests (``failure_ns`` over ``failure_count``).

    Attributes:
        model: its name.
        model_version: its version.
        inference_count: images computed.
        execution_count: batches computed; fewer than ``inference_count`` when batching works.
        success_count: requests answered.
        failure_count: requests that failed.
        success_ns: from arrival to response.
        failure_ns: from arrival to failure.
        queue_ns: waiting for a batch.
        compute_input_ns: preparing the inputs.
        compute_infer_ns: computing.
        compute_output_ns: fetching the outputs.
        busy_ns: the sum of the three compute times, once per batch instead of per request: how long instances worked.
        batch_sizes: batch size → how many batches of that size were computed.
    """

    model: str
    model_version: str
    inference_count: int
    execution_count: int
    success_count: int
    failure_count: int
    success_ns: int
    failure_ns: int
    queue_ns: int
    compute_input_ns: int
    compute_infer_ns: int
    compute_output_ns: int
    busy_ns: int
    batch_sizes: Mapping[int, int]

    @property
    def mean_batch_size(self) -> float:
        """Images per computed batch; 0 before the first."""
        return self.inference_count / self.execution_count if self.execution_count else 0.0


def added_up(counts: Iterable[ModelStatistics]) -> tuple[ModelStatistics, ...]:
    """One entry per model and version, in that order, where several servers have counted."""
    total: dict[tuple[str, str], ModelStatistics] = {}
    for entry in counts:
        key = entry.model, entry.model_version
        total[key] = _sum(total[key], entry) if key in total else entry
    return tuple(total[key] for key in sorted(total))


def _sum(one: ModelStatistics, other: ModelStatistics) -> ModelStatistics:
    names = [field.name for field in dataclasses.fields(one) if field.name.endswith(("_count", "_ns"))]
    sums: dict[str, Any] = {name: getattr(one, name) + getattr(other, name) for name in names}
    batches = collections.Counter(one.batch_sizes) + collections.Counter(other.batch_sizes)
    return dataclasses.replace(one, **sums, batch_sizes=dict(sorted(batches.items())))
