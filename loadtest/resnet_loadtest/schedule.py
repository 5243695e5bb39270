"""The load over time: profiles of stages, and in open loop the time of every request."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt


@dataclasses.dataclass(frozen=True)
class Stage:
    """A part of a run.

    Attributes:
        name: for reports.
        start_s: seconds since the run began.
        duration_s: seconds.
        start_level: requests per second (open loop) or users (closed loop) at its start.
        end_level: the same at its end; in between, the level changes linearly.
    """

    name: str
    start_s: float
    duration_s: float
    start_level: float
    end_level: float

    @property
    def end_s(self) -> float:
        """Seconds since the run began."""
        return self.start_s + self.duration_s

    @property
    def mean_level(self) -> float:
        """Requests per second, or users, on average."""
        return (self.start_level + self.end_level) / 2

    def level_at(self, time_s: float) -> float:
        """Requests per second, or users, at a time of this stage."""
        share = (time_s - self.start_s) / self.duration_s
        return self.start_level + (self.end_level - self.start_level) * min(1.0, max(0.0, share))


# Default duration in seconds; name, share of the duration, level at start and end as multiples of the requested level.
PROFILES = {
    "steady": (60, [("steady", 1.0, 1.0, 1.0)]),
    "ramp": (60, [(f"ramp {i * 20}-{i * 20 + 20} %", 0.2, i / 5, (i + 1) / 5) for i in range(5)]),
    "steps": (60, [(f"step {i * 20} %", 0.2, i / 5, i / 5) for i in range(1, 6)]),
    "spike": (60, [("before", 0.4, 1.0, 1.0), ("spike", 0.2, 3.0, 3.0), ("after", 0.4, 1.0, 1.0)]),
    "soak": (600, [(f"part {i} of 5", 0.2, 1.0, 1.0) for i in range(1, 6)]),
}


def stages(profile: str, level: float, duration_s: float | None = None) -> tuple[Stage, ...]:
    """The stages of a named profile.

    Args:
        profile: one of :data:`PROFILES`.
        level: requests per second, or users; only the spike exceeds it, by a factor of three.
        duration_s: of all stages together, in seconds; None for the profile's own.
    """
    default_s, parts = PROFILES[profile]
    whole_s = duration_s or default_s
    result: list[Stage] = []
    start_s = 0.0
    for name, share, first, last in parts:
        result.append(Stage(name, start_s, whole_s * share, level * first, level * last))
        start_s += whole_s * share
    return tuple(result)


def until(stages: Sequence[Stage], end_s: float) -> tuple[Stage, ...]:
    """The stages that began before ``end_s``, with the last one cut there."""
    begun = [stage for stage in stages if stage.start_s < end_s]
    last = begun[-1]
    cut = dataclasses.replace(last, duration_s=min(last.end_s, end_s) - last.start_s, end_level=last.level_at(end_s))
    return (*begun[:-1], cut)


def sending_times(stages: Sequence[Stage], arrivals: str, seed: int) -> npt.NDArray[np.float64]:
    """The intended sending times of a whole run.

    Args:
        stages: back to back, from 0 on; their levels are requests per second.
        arrivals: ``"poisson"`` (exponential gaps, as of independent clients) or ``"constant"`` (equal gaps).
        seed: the same seed gives the same schedule.

    Returns:
        float64, ascending, seconds since the run began, each below the end of the last stage.
    """
    expected = np.array([stage.mean_level * stage.duration_s for stage in stages])
    ends = np.cumsum(expected)
    points = _unit_points(float(ends[-1]), arrivals, seed)
    index = np.searchsorted(ends, points, side="right")
    times = np.empty_like(points)
    for number, stage in enumerate(stages):
        here = index == number
        times[here] = stage.start_s + _inverse(stage, points[here] - (ends[number] - expected[number]))
    return times


def _unit_points(end: float, arrivals: str, seed: int) -> npt.NDArray[np.float64]:
    """Arrivals at one per unit, on [0, end)."""
    if arrivals == "constant":
        return np.arange(0.5, end, 1.0)
    generator = np.random.default_rng(seed)
    count = generator.poisson(end)
    return np.sort(generator.uniform(0.0, end, count))


def _inverse(stage: Stage, expected: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The times within a stage at which these numbers of arrivals are expected."""
    slope = (stage.end_level - stage.start_level) / stage.duration_s
    if slope == 0:
        return expected / stage.start_level
    root = np.sqrt(np.maximum(0.0, stage.start_level**2 + 2 * slope * expected))
    # This form of the quadratic formula avoids 0 / 0 for a level that rises from 0.
    denominator = stage.start_level + root
    return np.divide(2 * expected, denominator, out=np.zeros_like(expected), where=denominator > 0)
