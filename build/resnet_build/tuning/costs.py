"""What one photo costs on this machine: t(b) = a + c·b of the network, decoding, and everything around both."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from resnet_build.options import ServingOptions


class Layout(NamedTuple):
    """How a network is spread over the machine.

    Attributes:
        instances: executions at once, per GPU or on the CPU.
        threads: CPU threads of each; 0 for all cores.
    """

    instances: int
    threads: int

    @classmethod
    def of(cls, options: ServingOptions) -> Layout:
        """Return the layout of a setting."""
        return cls(options.instances, options.threads)

    def __str__(self) -> str:
        return f"{self.instances} x {self.threads or 'all'}"


@dataclasses.dataclass(frozen=True)
class BatchTime:
    """Seconds that a batch of b photos takes: ``fixed_s`` + ``per_photo_s`` · b."""

    fixed_s: float
    per_photo_s: float

    def of(self, batch: int) -> float:
        """Return the time of a batch in seconds."""
        return self.fixed_s + self.per_photo_s * batch

    def show(self) -> str:
        """Tell it as a formula."""
        return f"{self.fixed_s * 1000:.1f} ms + {self.per_photo_s * 1000:.2f} ms x b"


def fit(times_s: Mapping[int, float]) -> BatchTime:
    """Fit t(b) = a + c·b with a ≥ 0 and c ≥ 0 by least squares of the relative errors.

    Args:
        times_s: batch size → seconds, above 0; at least one.
    """
    weights = {batch: 1 / seconds**2 for batch, seconds in times_s.items()}
    total = sum(weights.values())
    mean_b = sum(weight * batch for batch, weight in weights.items()) / total
    mean_t = sum(weights[batch] * seconds for batch, seconds in times_s.items()) / total
    spread = sum(weight * (batch - mean_b) ** 2 for batch, weight in weights.items())
    slope = 0.0
    if spread:
        slope = sum(weights[b] * (b - mean_b) * (s - mean_t) for b, s in times_s.items()) / spread
    fixed = mean_t - slope * mean_b
    if not spread or fixed < 0:
        # Through the origin.
        squares = sum(weight * batch**2 for batch, weight in weights.items())
        return BatchTime(0.0, sum(weights[b] * b * s for b, s in times_s.items()) / squares)
    return BatchTime(fixed, slope) if slope >= 0 else BatchTime(mean_t, 0.0)


@dataclasses.dataclass(frozen=True)
class Costs:
    """All that the prediction knows.

    Attributes:
        cores: of the machine.
        gpus: that the network runs on; 0 for the CPU.
        decode_s: seconds of one core for decoding and resizing a photo.
        around_s: seconds of one core for everything else about a photo: caller, transport, copies.
        measured_s: layout → batch size → seconds, while all instances compute at once.
    """

    cores: int
    gpus: int
    decode_s: float
    around_s: float
    measured_s: Mapping[Layout, Mapping[int, float]]

    def batch_time(self, layout: Layout) -> BatchTime:
        """Return the fit of a measured layout."""
        return fit(self.measured_s[layout])

    def executions(self, layout: Layout) -> int:
        """Return how many batches are computed at once."""
        return layout.instances * max(1, self.gpus)

    def cores_of(self, layout: Layout) -> float:
        """Return how many cores one instance keeps busy; on a GPU none."""
        if self.gpus:
            return 0.0
        return min(layout.threads or self.cores, self.cores / layout.instances)


def worst_error(measured_s: Mapping[int, float], fitted: BatchTime) -> float:
    """Return the largest relative error of a fit, 0 to infinity."""
    return max(abs(fitted.of(batch) / seconds - 1) for batch, seconds in measured_s.items())


def batches_to_measure(largest: int) -> Sequence[int]:
    """Return the few batch sizes that a fit takes: 1, 4 and 16, as far as they are allowed."""
    return sorted({min(size, largest) for size in (1, 4, 16)})
