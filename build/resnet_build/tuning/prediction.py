"""What is wanted of a setting, as predicted: photos per second, within the objective if there is one."""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from functools import partial

from resnet_build.options import ServingOptions
from resnet_build.tuning import candidates, simulation
from resnet_build.tuning.costs import Costs
from resnet_build.tuning.slo import SPAN_IN_BOUNDS, Slo, is_growing

# A prediction is no finer than this share of the best throughput.
_STEP = 0.05
# So that a machine with many cores, and so many settings, is not simulated for minutes.
_MOST_TURNS = 8


def throughputs(costs: Costs, among: Sequence[ServingOptions], callers: int) -> dict[ServingOptions, float]:
    """Return setting → photos per second with that many callers."""
    return {options: simulation.with_callers(costs, options, callers).throughput for options in among}


def rates_within(costs: Costs, among: Sequence[ServingOptions], slo: Slo) -> dict[ServingOptions, float]:
    """Return setting → the highest rate of Poisson arrivals, in photos per second, that keeps the objective.

    It is 0 for a setting that never does. Each is tried for a short while only.
    """
    busy = costs.cores * 4  # callers enough for every instance
    capacity = max(throughputs(costs, among, busy).values())
    rates = [capacity * _STEP * step for step in range(1, round(1 / _STEP) + 1)]
    found = {}
    for options in among:
        missed_from = bisect.bisect_left(rates, x=True, key=partial(_is_missed, costs, options, slo, 0.0))
        found[options] = rates[missed_from - 1] if missed_from else 0.0
    return found


def promising_within(
    costs: Costs, among: Sequence[ServingOptions], slo: Slo, current: ServingOptions, how_many: int
) -> dict[ServingOptions, float]:
    """Return the few settings that are worth measuring under an objective, and their rates, the present one first.

    These are tried for as long as overload takes to reach the bound; who falls back by that makes room for others.
    """
    predicted = rates_within(costs, among, slo)
    few: list[ServingOptions] = []
    tried: set[ServingOptions] = set()
    for _ in range(_MOST_TURNS):
        few = candidates.promising(predicted, current, how_many)
        if tried.issuperset(few):
            break
        for options in few:
            if options not in tried:
                predicted[options] = _sustained(costs, options, slo, predicted[options])
        tried.update(few)
    return {options: predicted[options] for options in few}


def _sustained(costs: Costs, options: ServingOptions, slo: Slo, rate: float) -> float:
    """The highest rate from this one downwards that keeps the objective for long; 0 if there is none."""
    for _ in range(round(1 / _STEP)):
        if not rate or not _is_missed(costs, options, slo, SPAN_IN_BOUNDS * slo.bound_s, rate):
            return rate
        rate *= 1 - _STEP
    return 0.0


def _is_missed(costs: Costs, options: ServingOptions, slo: Slo, span_s: float, rate: float) -> bool:
    found = simulation.at_rate(costs, options, rate, span_s)
    return not slo.is_met(sorted(found.latencies_s)) or is_growing([found.latencies_s], found.span_s)
