"""The few that are worth it, under an objective: at rates that rise until none of them keeps it."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Sequence

from resnet_build.options import ServingOptions
from resnet_build.tuning.candidates import preference
from resnet_build.tuning.slo import SPAN_IN_BOUNDS, Slo, is_growing

_UP, _DOWN = 1.1, 0.8
_MOST_RUNGS = 8

# Setting, rate, seed → latencies in seconds, in the order of arrival.
Measure = Callable[[ServingOptions, float, int], list[float]]


@dataclasses.dataclass
class Climber:
    """A setting on the ladder.

    Attributes:
        options: the setting.
        predicted: highest rate at which it was predicted to keep the objective.
        is_present: whether it is the one in force.
        kept: rate → what was measured of the percentile there, in seconds.
        missed: likewise, where the objective was missed, or would have been before long: the queue grew.
    """

    options: ServingOptions
    predicted: float
    is_present: bool = False
    kept: dict[float, float] = dataclasses.field(default_factory=dict)
    missed: dict[float, float] = dataclasses.field(default_factory=dict)

    @property
    def rate(self) -> float:
        """The highest rate at which it kept the objective; 0 if it never did."""
        return max(self.kept, default=0.0)


def climb(climbers: Sequence[Climber], measure: Measure, slo: Slo, report: Callable[[str], None]) -> Climber | None:
    """Find the highest rate, from the best prediction upwards, or downwards if nobody keeps the objective there.

    Returns:
        The preferred of those that keep it at the highest rate; None if none was found that does.
    """
    rate, none_from = max(climber.predicted for climber in climbers), math.inf
    staying: Sequence[Climber] = climbers
    for _ in range(_MOST_RUNGS):
        keeping = [climber for climber in staying if _keeps(climber, rate, measure, slo)]
        report(f"at {rate:.1f} photos/s {len(keeping)} of {len(staying)} settings keep {slo.text}")
        if keeping:
            staying, rate = keeping, rate * _UP
        elif any(climber.kept for climber in climbers):
            break
        else:
            none_from, rate = rate, rate * _DOWN
        if rate >= none_from:
            break
    highest = max(climber.rate for climber in climbers)
    if not highest:
        return None
    return min((c for c in climbers if c.rate == highest), key=lambda c: preference(c.options, is_present=c.is_present))


def _keeps(climber: Climber, rate: float, measure: Measure, slo: Slo) -> bool:
    """Measure, and once more before a verdict that it does not: the machine hiccups, too."""
    runs = [measure(climber.options, rate, 0)]
    if not _is_kept(runs, rate, slo):
        runs.append(measure(climber.options, rate, 1))
    is_kept = _is_kept(runs, rate, slo)
    (climber.kept if is_kept else climber.missed)[rate] = slo.value_s(sorted(itertools.chain(*runs)))
    return is_kept


def _is_kept(runs: Sequence[list[float]], rate: float, slo: Slo) -> bool:
    """Whether the percentile keeps its bound, and would go on to."""
    span_s = len(runs[0]) / rate
    return slo.is_met(sorted(itertools.chain(*runs))) and not is_growing(runs, span_s)


def seconds_for(slo: Slo, rate: float, least_s: float) -> float:
    """Return how long to measure at a rate so that the percentile means something, and overload reaches the bound."""
    return max(least_s, SPAN_IN_BOUNDS * slo.bound_s, math.ceil(slo.smallest_sample / rate))
