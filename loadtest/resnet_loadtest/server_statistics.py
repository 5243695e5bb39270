"""Triton's own statistics of a run, model by model: how often, in which batches, where the time went."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from resnet_client import ModelStatistics


@dataclasses.dataclass(frozen=True)
class Step:
    """What one model did between two looks at the server's statistics.

    Attributes:
        model: its name.
        succeeded: requests answered.
        failed: requests failed or rejected.
        photos: photos computed.
        executions: batches computed.
        total_s: from arrival to answer, summed over requests, in seconds.
        queue_s: waiting for a batch, summed likewise.
        compute_s: input, computing and output, summed likewise.
        busy_s: the same, summed over batches.
        batch_sizes: batch size → how many batches of that size were computed.
    """

    model: str
    succeeded: int
    failed: int
    photos: int
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
        """From arrival to answer, per request, in seconds."""
        return self.total_s / self.succeeded if self.succeeded else 0.0

    @property
    def mean_batch(self) -> float:
        """Photos per batch; 0 before the first."""
        return self.photos / self.executions if self.executions else 0.0

    def share_of(self, answered: int) -> float:
        """Which share of so many answered requests came through here, at most 1; some may go past it."""
        return min(1.0, self.succeeded / answered) if answered else 0.0

    def busy(self, wall_s: float) -> float:
        """How many instances computed at an average moment of ``wall_s`` seconds."""
        return self.busy_s / wall_s if wall_s else 0.0


def difference(before: Iterable[ModelStatistics], after: Iterable[ModelStatistics]) -> dict[str, Step]:
    """What every model did between two looks, versions added up; models that did nothing are left out."""
    start = {(entry.model, entry.model_version): entry for entry in before}
    steps: dict[str, Step] = {}
    for entry in after:
        step = _step(start.get((entry.model, entry.model_version)), entry)
        if step.succeeded or step.failed:
            steps[entry.model] = _sum(steps[entry.model], step) if entry.model in steps else step
    return steps


def _step(before: ModelStatistics | None, after: ModelStatistics) -> Step:
    def grown(name: str) -> int:
        return int(getattr(after, name)) - (int(getattr(before, name)) if before else 0)

    compute = sum(grown(f"compute_{part}_ns") for part in ("input", "infer", "output"))
    old_sizes = before.batch_sizes if before else {}
    sizes = {size: count - old_sizes.get(size, 0) for size, count in after.batch_sizes.items()}
    return Step(
        model=after.model,
        succeeded=grown("success_count"),
        failed=grown("failure_count"),
        photos=grown("inference_count"),
        executions=grown("execution_count"),
        total_s=grown("success_ns") / 1e9,
        queue_s=grown("queue_ns") / 1e9,
        compute_s=compute / 1e9,
        busy_s=grown("busy_ns") / 1e9,
        batch_sizes={size: count for size, count in sorted(sizes.items()) if count},
    )


def _sum(one: Step, other: Step) -> Step:
    sizes = dict(one.batch_sizes)
    for size, count in other.batch_sizes.items():
        sizes[size] = sizes.get(size, 0) + count
    names = [field.name for field in dataclasses.fields(Step) if field.name not in ("model", "batch_sizes")]
    sums = {name: getattr(one, name) + getattr(other, name) for name in names}
    return Step(model=one.model, batch_sizes=dict(sorted(sizes.items())), **sums)
