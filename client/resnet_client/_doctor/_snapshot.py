"""What the doctor saw, as plain data: the only thing that checks may look at."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import TypeAlias

from resnet_client.endpoints import Endpoint
from resnet_client.errors import ResnetClientError
from resnet_client.results import ModelStatistics

NETWORK_BACKENDS = frozenset({"onnxruntime", "pytorch", "openvino", "tensorrt"})


@dataclasses.dataclass(frozen=True)
class Batching:
    """A model's dynamic batching and its queue.

    Attributes:
        max_delay_us: how long a request may wait for others, in microseconds.
        preferred: batch sizes, the largest of which is the most taken at once; Triton enters the maximum itself.
        preserves_order: whether answers wait for those of earlier requests.
        queue_size: waiting requests before further ones are refused; 0 without limit.
        queue_timeout_us: longest wait in the queue, in microseconds; 0 without limit.
        delays: whether requests that waited too long are put off instead of refused.
        honours_timeout: whether a request may bring a time-out of its own.
    """

    max_delay_us: int = 0
    preferred: tuple[int, ...] = ()
    preserves_order: bool = False
    queue_size: int = 0
    queue_timeout_us: int = 0
    delays: bool = False
    honours_timeout: bool = False


@dataclasses.dataclass(frozen=True)
class Tensor:
    """An input or output: its name, Triton's name of its type, its shape without the batch, its label file."""

    name: str
    type: str
    dims: tuple[int, ...]
    label_file: str = ""


@dataclasses.dataclass(frozen=True)
class Model:
    """One served model and its configuration.

    Attributes:
        name: as in requests.
        versions: loaded ones, ascending.
        backend: ``python``, ``onnxruntime``, …; ``ensemble`` for an ensemble.
        max_batch_size: 0 without a batch dimension.
        batching: None without dynamic batching.
        cpu_instances: executions at once on the CPU.
        gpu_instances: executions at once on GPUs.
        parameters: as strings.
        warmed: batch sizes that are run before the model counts as ready.
        caches: whether the response cache is on.
        inputs: tensors that it takes.
        outputs: tensors that it gives.
        steps: models of an ensemble's steps → the version asked for, -1 for the latest.
    """

    name: str
    versions: tuple[int, ...] = (1,)
    backend: str = ""
    max_batch_size: int = 0
    batching: Batching | None = None
    cpu_instances: int = 0
    gpu_instances: int = 0
    parameters: Mapping[str, str] = dataclasses.field(default_factory=dict)
    warmed: tuple[int, ...] = ()
    caches: bool = False
    inputs: tuple[Tensor, ...] = ()
    outputs: tuple[Tensor, ...] = ()
    steps: Mapping[str, int] = dataclasses.field(default_factory=dict)

    @property
    def is_ensemble(self) -> bool:
        """Whether it only leads to other models."""
        return bool(self.steps)

    @property
    def is_network(self) -> bool:
        """Whether it is a neural network, not code."""
        return self.backend in NETWORK_BACKENDS

    @property
    def batches(self) -> bool:
        """Whether its configuration lets requests be computed together; a preferred size of 1 says no, on purpose."""
        return self.max_batch_size > 1 and self.batching is not None and max(self.batching.preferred, default=0) != 1

    @property
    def threads(self) -> int:
        """CPU threads of each instance, as configured; 0 for all cores."""
        keys = ("intra_op_thread_count", "INTRA_OP_THREAD_COUNT", "INFERENCE_NUM_THREADS")
        texts = (self.parameters.get(key, "") for key in keys)
        return next((int(text) for text in texts if text.isdecimal()), 0)


@dataclasses.dataclass(frozen=True)
class Answered:
    """A batch of test pictures came back.

    Attributes:
        tops: index of the most probable class of each row.
        unlabelled: classes of the first row that came without a label.
    """

    tops: tuple[int, ...]
    unlabelled: int = 0


Probe: TypeAlias = Answered | ResnetClientError


@dataclasses.dataclass(frozen=True)
class Trial:
    """What became of the test requests to one model that takes photos.

    Attributes:
        is_flagged_ready: what the server says of the model.
        single: one test picture, answered with all classes.
        rows: how many pictures the batch had.
        batch: the same picture ``rows`` times; None if there was none because the single one failed.
    """

    is_flagged_ready: bool
    single: Probe
    rows: int = 0
    batch: Probe | None = None


@dataclasses.dataclass(frozen=True)
class LargeRequest:
    """A picture with so many bytes was sent."""

    size_bytes: int
    error: ResnetClientError | None = None


@dataclasses.dataclass(frozen=True)
class Unloaded:
    """A version that the repository holds and the server does not serve, and why."""

    model: str
    version: str
    reason: str


@dataclasses.dataclass(frozen=True)
class Metrics:
    """What the metrics endpoint names: metrics, and models that are served."""

    names: frozenset[str]
    models: frozenset[str] = frozenset()


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """One look at a server. What could not be seen is None, and ``unseen`` says why.

    Attributes:
        endpoint: where it was looked at.
        model: the model that the client asks by default.
        is_ready: what the server says of itself.
        version: Triton's, such as ``2.51.0``.
        models: served models by name.
        trials: test requests by model.
        large_request: whether a large photo gets through.
        statistics: Triton's own counts.
        unloaded: versions that failed to load.
        open_apis: restricted interface → whether it answers without a token.
        token_refused: whether the token given opened nothing; False without one.
        metrics: what the metrics endpoint holds; None if it could not be read.
        metrics_url: where that was; empty if it was not to be looked at.
        cores: CPU cores of the server's machine.
        unseen: name of an attribute → why it is None.
    """

    endpoint: Endpoint
    model: str
    is_ready: bool = True
    version: str | None = None
    models: Mapping[str, Model] | None = None
    trials: Mapping[str, Trial] | None = None
    large_request: LargeRequest | None = None
    statistics: tuple[ModelStatistics, ...] | None = None
    unloaded: tuple[Unloaded, ...] | None = None
    open_apis: Mapping[str, bool] | None = None
    token_refused: bool = False
    metrics: Metrics | None = None
    metrics_url: str = ""
    cores: int | None = None
    unseen: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def ensembles(self) -> Iterator[Model]:
        """Models that only lead to others."""
        return (model for model in (self.models or {}).values() if model.is_ensemble)

    def computing(self) -> Iterator[Model]:
        """Models that compute: all but the ensembles."""
        return (model for model in (self.models or {}).values() if not model.is_ensemble)

    def networks(self) -> Iterator[Model]:
        """Models that are neural networks."""
        return (model for model in self.computing() if model.is_network)
