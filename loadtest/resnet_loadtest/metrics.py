"""Compute the metrics of a run or a stage from all its samples.

A failed request has no response time: percentiles that fall among failures are infinite.
"""

from __future__ import annotations

import collections
import dataclasses
import math
import statistics
from collections.abc import Iterable, Sequence

import numpy as np

from resnet_loadtest.percentiles import confidence_interval, percentile
from resnet_loadtest.samples import (
    NEVER_SENT,
    GeneratorMetrics,
    Samples,
    Status,
    durations_s,
    in_flight,
    lateness_s,
    only_answered,
)
from resnet_loadtest.schedule import Stage

CPU_LIMIT = 0.9
"""Above this share of its core, a sending thread may send late."""

_IN_SECONDS_FROM_MS = 2000.0


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
        in_flight: requests in flight, averaged over the period.
    """

    name: str
    start_s: float
    end_s: float
    level: float
    samples: Samples
    answered: int
    in_flight: float

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
        counts = np.bincount(self.samples["status"], minlength=len(Status)).tolist()
        return {status: counts[status] for status in Status if counts[status] and status is not Status.OK}

    @property
    def failure_reasons(self) -> str:
        """Number of failed requests by reason, as text; ``none`` if all succeeded."""
        return ", ".join(f"{count} {status.description}" for status, count in self.failures.items()) or "none"

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
        return float(np.mean(durations_s(self.samples))) if self.requests else math.nan

    @property
    def mean_service_s(self) -> float:
        """Mean service time of the answered requests, in seconds; NaN without any."""
        service_s = durations_s(only_answered(self.samples), "service")
        return float(service_s.mean()) if len(service_s) else math.nan

    @property
    def max_s(self) -> float:
        """Longest response time in seconds; infinite if a request failed."""
        return float(np.max(durations_s(self.samples), initial=0.0))

    def percentile_s(self, percent: float, of: str = "response") -> float:
        """A percentile in seconds; infinite where it falls among failures, NaN without requests.

        Args:
            percent: above 0, at most 100.
            of: ``"response"`` counts from the intended sending, ``"service"`` from the actual.
        """
        return percentile(durations_s(self.samples, of), percent) if self.requests else math.nan

    def interval_s(self, percent: float, of: str = "response") -> tuple[float, float]:
        """95 % confidence interval of a percentile, in seconds."""
        return confidence_interval(durations_s(self.samples, of), percent) if self.requests else (math.nan, math.nan)

    def late_s(self, percent: float) -> float:
        """A percentile of how late requests were sent, in seconds; 0 without any."""
        late = lateness_s(self.samples)
        return percentile(late, percent) if len(late) else 0.0


def of_stage(stage: Stage, samples: Samples) -> Metrics:
    """The metrics of one stage."""
    return _between(stage.name, stage.start_s, stage.end_s, stage.mean_level, samples)


def of_run(stages: Sequence[Stage], samples: Samples) -> Metrics:
    """The metrics of all stages together."""
    end_s = stages[-1].end_s
    level = sum(stage.mean_level * stage.duration_s for stage in stages) / end_s
    return _between("whole run", 0.0, end_s, level, samples)


def _between(name: str, start_s: float, end_s: float, level: float, samples: Samples) -> Metrics:
    due, done = (
        samples[(samples[column] >= start_s) & (samples[column] < end_s)] for column in ("intended_s", "done_s")
    )
    return Metrics(name, start_s, end_s, level, due, len(only_answered(done)), in_flight(samples, start_s, end_s))


def busiest_cpu(generator: Iterable[GeneratorMetrics], start_s: float, end_s: float) -> float:
    """Mean CPU share of the busiest sending thread in that time, 0 to 1."""
    by_worker: dict[int, list[float]] = collections.defaultdict(list)
    for each in generator:
        if start_s < each.time_s <= end_s + 1:  # a measurement covers the second before it
            by_worker[each.worker].append(each.thread_cpu)
    return max(map(statistics.fmean, by_worker.values()), default=0.0)
