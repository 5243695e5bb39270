"""The figures of a run or of one of its stages, each from the full sample."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from resnet_loadtest import quantiles
from resnet_loadtest.samples import NEVER_SENT, Fate, lateness_s, response_s, service_s

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from resnet_loadtest.samples import Samples
    from resnet_loadtest.schedule import Stage

PERCENTILES = (50.0, 90.0, 95.0, 99.0, 99.9)


@dataclasses.dataclass(frozen=True, eq=False)
class Figures:
    """What happened between two moments of a run.

    Attributes:
        name: the stage's name, or ``"whole run"``.
        start_s: from when, in seconds since the run began.
        end_s: until when.
        level: requests per second asked for (open loop), or users (closed loop), on average.
        samples: the requests that were to be sent in that time.
        answered: photos whose answer came in that time, whenever they were sent.
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
        """Requests that were to be sent."""
        return len(self.samples)

    @property
    def sent(self) -> int:
        """Requests that were sent."""
        return int(np.sum(~np.isin(self.samples["fate"], NEVER_SENT)))

    @property
    def failures(self) -> dict[Fate, int]:
        """How requests failed, and how many."""
        counts = {fate: int(np.sum(self.samples["fate"] == fate)) for fate in Fate if fate is not Fate.OK}
        return {fate: count for fate, count in counts.items() if count}

    @property
    def error_rate(self) -> float:
        """Share of the requests that failed, 0 to 1; those never sent are failures too."""
        return sum(self.failures.values()) / self.requests if self.requests else 0.0

    @property
    def throughput(self) -> float:
        """Photos answered per second."""
        return self.answered / self.duration_s

    @property
    def offered(self) -> float:
        """Requests per second that were to be sent."""
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
        return quantiles.percentile(values, percent) if len(values) else float("nan")

    def interval_s(self, percent: float, *, of: str = "response") -> tuple[float, float]:
        """95 % confidence interval of a percentile, in seconds."""
        values = self._durations_s(of)
        return quantiles.interval(values, percent) if len(values) else (float("nan"), float("nan"))

    def late_s(self, percent: float) -> float:
        """A percentile of how late requests were sent, in seconds; 0 without any."""
        late = lateness_s(self.samples)
        return quantiles.percentile(late, percent) if len(late) else 0.0

    def _durations_s(self, of: str) -> npt.NDArray[np.float64]:
        return service_s(self.samples) if of == "service" else response_s(self.samples)


def of_stage(stage: Stage, samples: Samples) -> Figures:
    """The figures of one stage."""
    return _figures(stage.name, stage.start_s, stage.end_s, stage.mean_level, samples)


def of_run(stages: Sequence[Stage], samples: Samples) -> Figures:
    """The figures of all stages together."""
    whole_s = stages[-1].end_s
    level = sum(stage.mean_level * stage.duration_s for stage in stages) / whole_s
    return _figures("whole run", 0.0, whole_s, level, samples)


def _figures(name: str, start_s: float, end_s: float, level: float, samples: Samples) -> Figures:
    intended = samples["intended_s"]
    here = samples[(intended >= start_s) & (intended < end_s)]
    done = samples[(samples["done_s"] >= start_s) & (samples["done_s"] < end_s)]
    return Figures(name, start_s, end_s, level, here, int(done["answered"].sum()))
