"""What each model did between two reads of Triton's statistics: requests, batches and times."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterable, Mapping

from resnet_client import ModelStatistics
from resnet_client.results import added_up


@dataclasses.dataclass(frozen=True)
class Step:
    """What one model did between two reads of the server's statistics.

    Attributes:
        model: its name.
        succeeded: requests answered.
        failed: requests failed or rejected.
        images: images computed.
        executions: batches computed.
        total_s: from arrival to response, summed over requests, in seconds.
        queue_s: waiting for a batch, summed over requests.
        compute_s: input, inference and output, summed over requests.
        busy_s: the same, summed over batches.
        batch_sizes: batch size → how many batches of that size were computed.
    """

    model: str
    succeeded: int
    failed: int
    images: int
    executions: int
    total_s: float
    queue_s: float
    compute_s: float
    busy_s: float
    batch_sizes: Mapping[int, int]

    @property
    def mean_queue_s(self) -> float:
        """Waiting, per request, in seconds."""
        return self.queue_s / self.succeeded if self.succeeded else 0.0

    @property
    def mean_compute_s(self) -> float:
        """Computing, per request, in seconds."""
        return self.compute_s / self.succeeded if self.succeeded else 0.0

    @property
    def mean_total_s(self) -> float:
        """From arrival to response, per request, in seconds."""
        return self.total_s / self.succeeded if self.succeeded else 0.0

    @property
    def mean_batch(self) -> float:
        """Images per batch; 0 before the first."""
        return self.images / self.executions if self.executions else 0.0

    def share_of(self, answered: int) -> float:
        """The share of that many answered requests that this model served, at most 1."""
        return min(1.0, self.succeeded / answered) if answered else 0.0

    def busy(self, wall_s: float) -> float:
        """How many instances were busy, averaged over ``wall_s`` seconds."""
        return self.busy_s / wall_s if wall_s else 0.0


def difference(before: Iterable[ModelStatistics], after: Iterable[ModelStatistics]) -> dict[str, Step]:
    """What every model did between two reads, summed over its versions; models without requests are left out."""
    end = list(after)
    versions = {(entry.model, entry.model_version) for entry in end}
    earlier = _by_model(entry for entry in before if (entry.model, entry.model_version) in versions)
    steps = {model: _step(earlier.get(model), entry) for model, entry in _by_model(end).items()}
    return {model: step for model, step in steps.items() if step.succeeded or step.failed}


def requests_served(steps: Mapping[str, Step], entries: Mapping[str, str]) -> int:
    """How many requests the models that clients call have served.

    Args:
        steps: what each model did.
        entries: model that clients call → ensemble of which it is a step; empty for none. The count of a step
            includes the requests of its ensemble, which are subtracted.
    """
    total = 0
    for model, ensemble in entries.items():
        total += steps[model].succeeded if model in steps else 0
        total -= steps[ensemble].succeeded if ensemble in steps else 0
    return total


def _by_model(counts: Iterable[ModelStatistics]) -> dict[str, ModelStatistics]:
    """The counts of each model, its versions added up."""
    return {entry.model: entry for entry in added_up(dataclasses.replace(each, model_version="") for each in counts)}


def _step(before: ModelStatistics | None, after: ModelStatistics) -> Step:
    def grown(name: str) -> int:
        return int(getattr(after, name)) - (int(getattr(before, name)) if before else 0)

    sizes = collections.Counter(after.batch_sizes) - collections.Counter(before.batch_sizes if before else {})
    return Step(
        model=after.model,
        succeeded=grown("success_count"),
        failed=grown("failure_count"),
        images=grown("inference_count"),
        executions=grown("execution_count"),
        total_s=grown("success_ns") / 1e9,
        queue_s=grown("queue_ns") / 1e9,
        compute_s=sum(grown(f"compute_{part}_ns") for part in ("input", "infer", "output")) / 1e9,
        busy_s=grown("busy_ns") / 1e9,
        batch_sizes=dict(sorted(sizes.items())),
    )
