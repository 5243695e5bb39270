"""The answer: how many servers, how busy, what they cost."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from resnet_loadtest.errors import LoadTestError, UsageError
from resnet_loadtest.judge.slo import parse
from resnet_loadtest.sizing import curve as curves
from resnet_loadtest.sizing import model

if TYPE_CHECKING:
    from collections.abc import Callable

    from resnet_loadtest.judge.run import Run
    from resnet_loadtest.judge.slo import Objective
    from resnet_loadtest.sizing.curve import Curve
    from resnet_loadtest.sizing.model import Queue

_HOURS_PER_MONTH = 730.0


@dataclasses.dataclass(frozen=True)
class Demand:
    """What is asked for.

    Attributes:
        rate: requests per second of all callers together.
        slo: one objective about time.
        spare: servers beyond those that are needed, so that some may fail or be replaced.
        in_turn: one caller deals all requests in turn, instead of many callers each for itself.
        gpus_per_server: for the count of GPUs.
        cost_per_hour: of one server; None if that does not matter.
    """

    rate: float
    slo: str
    spare: int = 1
    in_turn: bool = False
    gpus_per_server: int = 0
    cost_per_hour: float | None = None


@dataclasses.dataclass(frozen=True)
class Plan:
    """How many servers it takes.

    Attributes:
        demand: what was asked for.
        objective: of its ``slo``.
        curve: that was measured.
        queue: that was fitted to it.
        needed: servers that meet the objective.
    """

    demand: Demand
    objective: Objective
    curve: Curve
    queue: Queue
    needed: int

    @property
    def servers(self) -> int:
        """With those to spare."""
        return self.needed + self.demand.spare

    @property
    def gpus(self) -> int:
        """Of all servers."""
        return self.servers * self.demand.gpus_per_server

    @property
    def cost_per_month(self) -> float | None:
        """Of all servers, in the currency of the cost per hour."""
        cost = self.demand.cost_per_hour
        return None if cost is None else cost * self.servers * _HOURS_PER_MONTH

    def latency_s(self, servers: int) -> float:
        """Predicted for the demand with so many servers."""
        return _predicted_s(self.queue, self.demand, servers)

    def load(self, servers: int) -> float:
        """Utilisation, as a share of the capacity."""
        return self.demand.rate / servers / self.queue.capacity

    @property
    def is_beyond_measured(self) -> bool:
        """Whether servers would run at loads higher than any that the report has measured."""
        return self.demand.rate / self.needed > self.curve.points[-1].rate


def make(run: Run, demand: Demand) -> Plan:
    """Plan from the report of one server.

    Raises:
        UsageError: the objective or the report does not serve.
        LoadTestError: no number of servers meets the objective.
    """
    objective = _objective(demand.slo)
    curve = curves.of_run(run, objective)
    queue = model.fit(curve, None if objective.percent is None else objective.percent / 100)
    idle_s = queue.latency_s(0.0)
    if not objective.is_met_by(idle_s):
        raise LoadTestError(
            f"{objective.text} is out of reach for any number of servers: an idle one takes {idle_s * 1000:.1f} ms"
        )
    needed = _first(lambda servers: objective.is_met_by(_predicted_s(queue, demand, servers)))
    return Plan(demand, objective, curve, queue, needed)


def _objective(slo: str) -> Objective:
    try:
        objectives = parse(slo)
    except ValueError as exc:
        raise UsageError(f"--slo: {exc}") from exc
    if len(objectives) != 1 or objectives[0].metric not in ("response", "mean"):
        raise UsageError("a plan is for one objective about time, such as p99<=50ms or mean<=20ms")
    return objectives[0]


def _predicted_s(queue: Queue, demand: Demand, servers: int) -> float:
    return queue.latency_s(demand.rate, servers, in_turn=demand.in_turn)


def _first(is_enough: Callable[[int], bool]) -> int:
    """The smallest number that is enough: with more servers each is less loaded, so that all above are, too."""
    high = 1
    while not is_enough(high):
        high *= 2
    low = high // 2 + 1
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if is_enough(middle) else (middle + 1, high)
    return high
