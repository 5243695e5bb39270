"""What is wanted of a setting, as predicted: photos per second, within the objective if there is one."""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from functools import partial

from resnet_build.options import ServingOptions
from resnet_build.tuning import simulation
from resnet_build.tuning.costs import Costs
from resnet_build.tuning.slo import Slo

# A prediction is no finer than this share of the best throughput.
_STEP = 0.05


def throughputs(costs: Costs, among: Sequence[ServingOptions], callers: int) -> dict[ServingOptions, float]:
    """Return setting → photos per second with that many callers."""
    return {options: simulation.with_callers(costs, options, callers).throughput for options in among}


def rates_within(costs: Costs, among: Sequence[ServingOptions], slo: Slo) -> dict[ServingOptions, float]:
    """Return setting → the highest rate of Poisson arrivals, in photos per second, that keeps the objective.

    It is 0 for a setting that never does.
    """
    busy = costs.cores * 4  # callers enough for every instance
    capacity = max(throughputs(costs, among, busy).values())
    rates = [capacity * _STEP * step for step in range(1, round(1 / _STEP) + 1)]
    found = {}
    for options in among:
        missed_from = bisect.bisect_left(rates, x=True, key=partial(_is_missed, costs, options, slo))
        found[options] = rates[missed_from - 1] if missed_from else 0.0
    return found


def _is_missed(costs: Costs, options: ServingOptions, slo: Slo, rate: float) -> bool:
    return not slo.is_met(simulation.at_rate(costs, options, rate).latencies_s)
