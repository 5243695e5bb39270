"""Compute the metrics of a run or a stage from all its samples, and those of the generator.

A failed request has no response time: percentiles that fall among failures are infinite.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from resnet_loadtest.percentiles import confidence_interval, percentile
from resnet_loadtest.samples import (
    NEVER_SENT,
    GeneratorMetrics,
    Samples,
    Status,
    images_answered,
    lateness_s,
    response_s,
    service_s,
)
from resnet_loadtest.schedule import Stage

_IN_SECONDS_FROM_MS = 2000.0
_MINUTE = 60


def milliseconds(seconds: float) -> str:
    """A response time with its unit; undefined if it is infinite, because of failures."""
    if math.isnan(seconds):
        return "-"
    if math.isinf(seconds):
        return "undefined"
    value = seconds * 1000
    return f"{seconds:.2f} s" if value >= _IN_SECONDS_FROM_MS else f"{value:.1f} ms"


@dataclasses.dataclass(frozen=True, eq=False)
class Metrics:
    """The metrics of a period of a run.

    Attributes:
        name: the stage's name, or ``"whole run"``.
        start_s: start in seconds since the run began.
        end_s: end in seconds since the run began.
        level: offered requests per second (open loop), or users (closed loop), on average.
        samples: the requests that were due in the period.
        answered: images whose response arrived in the period.
    """

    name: str
    start_s: float
    end_s: float
    level: float
    samples: Samples
    answered: int

    @property
    def duration_s(self) -> float:
        """Seconds."""
        return self.end_s - self.start_s

    @property
    def requests(self) -> int:
        """Requests that were due."""
        return len(self.samples)

    @property
    def sent(self) -> int:
        """Requests that were sent."""
        return int(np.sum(~np.isin(self.samples["status"], NEVER_SENT)))

    @property
    def failures(self) -> dict[Status, int]:
        """Number of failed requests by status."""
        counts = {status: int(np.sum(self.samples["status"] == status)) for status in Status}
        return {status: count for status, count in counts.items() if count and status is not Status.OK}

    @property
    def error_rate(self) -> float:
        """Share of the requests that failed, 0 to 1; requests that were not sent are failures too."""
        return sum(self.failures.values()) / self.requests if self.requests else 0.0

    @property
    def throughput(self) -> float:
        """Images answered per second."""
        return self.answered / self.duration_s

    @property
    def offered(self) -> float:
        """Requests per second that were due."""
        return self.requests / self.duration_s

    @property
    def mean_s(self) -> float:
        """Mean response time in seconds; infinite if a request failed, NaN without requests."""
        return float(np.mean(response_s(self.samples))) if self.requests else float("nan")

    @property
    def mean_service_s(self) -> float:
        """Mean service time of the answered requests, in seconds; NaN without any."""
        durations = service_s(self.samples)
        good = durations[np.isfinite(durations)]
        return float(good.mean()) if len(good) else float("nan")

    @property
    def max_s(self) -> float:
        """Longest response time in seconds; infinite if a request failed."""
        return float(np.max(response_s(self.samples), initial=0.0))

    def percentile_s(self, percent: float, *, of: str = "response") -> float:
        """A percentile in seconds; infinite where it falls among failures, NaN without requests.

        Args:
            percent: above 0, at most 100.
            of: ``"response"`` counts from the intended sending, ``"service"`` from the actual.
        """
        values = self._durations_s(of)
        return percentile(values, percent) if len(values) else float("nan")

    def interval_s(self, percent: float, *, of: str = "response") -> tuple[float, float]:
        """95 % confidence interval of a percentile, in seconds."""
        values = self._durations_s(of)
        return confidence_interval(values, percent) if len(values) else (float("nan"), float("nan"))

    def late_s(self, percent: float) -> float:
        """A percentile of how late requests were sent, in seconds; 0 without any."""
        late = lateness_s(self.samples)
        return percentile(late, percent) if len(late) else 0.0

    def _durations_s(self, of: str) -> npt.NDArray[np.float64]:
        return service_s(self.samples) if of == "service" else response_s(self.samples)


def of_stage(stage: Stage, samples: Samples) -> Metrics:
    """The metrics of one stage."""
    return _between(stage.name, stage.start_s, stage.end_s, stage.mean_level, samples)


def of_run(stages: Sequence[Stage], samples: Samples) -> Metrics:
    """The metrics of all stages together."""
    end_s = stages[-1].end_s
    level = sum(stage.mean_level * stage.duration_s for stage in stages) / end_s
    return _between("whole run", 0.0, end_s, level, samples)


def _between(name: str, start_s: float, end_s: float, level: float, samples: Samples) -> Metrics:
    intended = samples["intended_s"]
    due = samples[(intended >= start_s) & (intended < end_s)]
    done = samples[(samples["done_s"] >= start_s) & (samples["done_s"] < end_s)]
    return Metrics(name, start_s, end_s, level, due, images_answered(done))


def busiest_cpu(generator: Sequence[GeneratorMetrics], start_s: float, end_s: float) -> float:
    """Mean CPU share of the busiest sending thread in that time, 0 to 1."""
    # A measurement covers the second before it.
    by_worker = _by_worker(generator, start_s, end_s + 1, "thread_cpu")
    return max((sum(shares) / len(shares) for shares in by_worker.values()), default=0.0)


def mean_in_flight(generator: Sequence[GeneratorMetrics], start_s: float, end_s: float) -> float | None:
    """Requests in flight in all workers together, averaged over that time; None without a measurement."""
    by_worker = _by_worker(generator, start_s, end_s, "in_flight")
    return sum(sum(values) / len(values) for values in by_worker.values()) if by_worker else None


def memory_growth(generator: Sequence[GeneratorMetrics], warm_up_share: float = 0.2) -> float | None:
    """The largest growth of a worker's memory after warm-up, as a share; None for runs under a minute."""
    by_worker = _by_worker(generator, -math.inf, math.inf, "rss_bytes")
    long_enough = [memory for memory in by_worker.values() if len(memory) >= _MINUTE]
    growths = [memory[-1] / memory[int(len(memory) * warm_up_share)] - 1 for memory in long_enough]
    return max(growths, default=None)


def _by_worker(
    generator: Sequence[GeneratorMetrics], after_s: float, until_s: float, name: str
) -> dict[int, list[float]]:
    by_worker: dict[int, list[float]] = {}
    for each in generator:
        if after_s < each.time_s <= until_s:
            by_worker.setdefault(each.worker, []).append(getattr(each, name))
    return by_worker
