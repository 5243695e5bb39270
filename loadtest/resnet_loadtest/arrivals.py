"""When requests are sent in open loop: decided before the run, whatever the server does then."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from resnet_loadtest.schedule import Stage


def schedule(stages: Sequence[Stage], arrivals: str, seed: int) -> npt.NDArray[np.float64]:
    """The intended sending times of a whole run.

    Args:
        stages: back to back, from 0 on; their levels are requests per second.
        arrivals: ``"poisson"`` (independent callers, exponential gaps) or ``"constant"`` (even gaps).
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


def share(times: npt.NDArray[np.float64], index: int, count: int) -> npt.NDArray[np.float64]:
    """The part of a schedule that worker ``index`` of ``count`` sends; the parts add up to the whole."""
    return times[index::count]


def _unit_points(end: float, arrivals: str, seed: int) -> npt.NDArray[np.float64]:
    """Arrivals at one per unit, on [0, end)."""
    if arrivals == "constant":
        return np.arange(0.5, end, 1.0)
    generator = np.random.default_rng(seed)
    count = generator.poisson(end)
    return np.sort(generator.uniform(0.0, end, count))


def _inverse(stage: Stage, expected: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """When, within a stage, so many arrivals are expected to have come."""
    slope = (stage.end_level - stage.start_level) / stage.duration_s
    if slope == 0:
        return expected / stage.start_level
    root = np.sqrt(np.maximum(0.0, stage.start_level**2 + 2 * slope * expected))
    # For a rising level from 0 the textbook formula divides nothing by nothing; this form does not.
    denominator = stage.start_level + root
    return np.divide(2 * expected, denominator, out=np.zeros_like(expected), where=denominator > 0)
