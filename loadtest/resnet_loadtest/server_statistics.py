"""Triton's statistics of a run: requests, batches and times of each model, and whether they match the clients'."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from resnet_loadtest.samples import UNANSWERED

if TYPE_CHECKING:
    from resnet_client import ModelStatistics

    from resnet_loadtest.samples import Samples


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
    """What every model did between two reads, summed over its versions; models that did nothing are left out."""
    start = {(entry.model, entry.model_version): entry for entry in before}
    steps: dict[str, Step] = {}
    for entry in after:
        step = _step(start.get((entry.model, entry.model_version)), entry)
        if step.succeeded or step.failed:
            steps[entry.model] = _sum(steps[entry.model], step) if entry.model in steps else step
    return steps


def images_answered(samples: Samples) -> int:
    """How many images the clients received a response for, those after the end of the run included."""
    return int(samples["answered"].sum())


def images_unanswered(samples: Samples) -> int:
    """How many images were sent and never answered; the server may or may not have counted them."""
    return int(samples["failed"][np.isin(samples["status"], UNANSWERED)].sum())


def requests_served(steps: Mapping[str, Step], entries: Mapping[str, str]) -> int:
    """How many requests the models that clients call have served.

    Args:
        steps: what each model did.
        entries: the models that clients call → the ensemble each is a step of; empty for none. The count of a
            step includes those of its ensemble, which are subtracted.
    """
    total = 0
    for model, ensemble in entries.items():
        total += steps[model].succeeded if model in steps else 0
        total -= steps[ensemble].succeeded if ensemble in steps else 0
    return total


def disagreement(
    samples: Samples, steps: Mapping[str, Step], entries: Mapping[str, str], *, is_shared: bool = False
) -> str | None:
    """How the counts of clients and server differ; None if they agree.

    Args:
        samples: all that the clients recorded.
        steps: what each model did.
        entries: as for :func:`requests_served`.
        is_shared: others may call the server too, so it may count more.
    """
    answered, unanswered = images_answered(samples), images_unanswered(samples)
    counted = requests_served(steps, entries)
    if counted < answered:
        return f"the clients received {answered} responses, but the server counted only {counted}"
    if counted > answered + unanswered and not is_shared:
        why = "other clients call it (allow that with --shared-server), or responses were lost"
        return f"the server counted {counted} responses, but the clients received {answered}: {why}"
    return None


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
        images=grown("inference_count"),
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
