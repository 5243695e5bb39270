"""The rate-latency curve of one server, as a run measured it."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

from resnet_loadtest.errors import UsageError

if TYPE_CHECKING:
    from resnet_loadtest.judge.figures import Figures
    from resnet_loadtest.judge.run import Run
    from resnet_loadtest.judge.slo import Objective

SHAPE = (0.5, 0.9)
"""Shares of the requests whose times are looked at beside the objective's."""

_MOST_FAILED = 0.01
_FEWEST_POINTS = 3


@dataclasses.dataclass(frozen=True)
class Point:
    """One stage of the run.

    Attributes:
        rate: requests offered per second.
        latency_s: what the objective is about, in seconds.
        shape_s: the percentiles ``SHAPE``, in seconds.
    """

    rate: float
    latency_s: float
    shape_s: tuple[float, ...]


@dataclasses.dataclass(frozen=True)
class Curve:
    """What is known of one server.

    Attributes:
        points: by rate, only of stages in which the server kept up.
        throughput: the most requests per second that any stage saw answered.
    """

    points: tuple[Point, ...]
    throughput: float


def of_run(run: Run, objective: Objective) -> Curve:
    """Read the curve of a run that raised the load step by step.

    Raises:
        UsageError: the run proves nothing, or has too few stages that can be used.
    """
    if not run.options.is_open_loop or run.options.arrivals != "poisson":
        raise UsageError("a plan is made from an open-loop run with Poisson arrivals: run --profile steps --rate auto")
    if run.generator_doubts:
        raise UsageError(f"the report measured its generator: {run.generator_doubts[0]}")
    stages = [stage for stage in run.parts if stage.requests >= objective.smallest_sample and stage.error_rate < 1]
    points = [_point(stage, objective) for stage in stages if _kept_up(stage)]
    usable = sorted((p for p in points if math.isfinite(p.latency_s)), key=lambda point: point.rate)
    if len(usable) < _FEWEST_POINTS:
        raise UsageError(
            f"{objective.text} is known at {len(usable)} loads only, and {_FEWEST_POINTS} are needed: run --profile "
            "steps --rate auto for longer"
        )
    return Curve(tuple(usable), max(stage.completion_rate for stage in stages))


def _point(stage: Figures, objective: Objective) -> Point:
    shape_s = tuple(stage.percentile_s(100 * share) for share in SHAPE)
    return Point(stage.offered, objective.measured(stage), shape_s)


def _kept_up(stage: Figures) -> bool:
    """In a stage that is overloaded the queue only grows: its times tell how long the stage was."""
    least = (1 - 2 / math.sqrt(stage.requests)) * stage.offered
    return stage.error_rate < _MOST_FAILED and stage.completion_rate > least
