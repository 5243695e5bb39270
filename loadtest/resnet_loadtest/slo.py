"""Service level objectives: ``p99<=150ms,error_rate<=0.1%,throughput>=15/s``."""

from __future__ import annotations

import dataclasses
import math
import re

from resnet_loadtest.errors import UsageError
from resnet_loadtest.metrics import Metrics, milliseconds
from resnet_loadtest.percentiles import smallest_sample

_EXAMPLES = "p99<=150ms, service_p99<=150ms, mean<=50ms, max<=2s, error_rate<=0.1%, throughput>=15/s"

_CLAUSE = re.compile(
    r"\s*(?P<name>(?P<service>service_)?p(?P<percent>[0-9]+(\.[0-9]+)?)|mean|max|error_rate|throughput)\s*"
    r"(?P<sign><=|>=)\s*(?P<number>[0-9]{1,15}(\.[0-9]+)?)\s*(?P<unit>[a-zµ%/]*)\s*"
)
_TIME_UNITS = {"us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0}
_UNITS = {"error_rate": {"%": 0.01, "": 1.0}, "throughput": {"/s": 1.0}}


@dataclasses.dataclass(frozen=True)
class Objective:
    """One objective.

    Attributes:
        text: as given.
        metric: ``response``, ``service``, ``mean``, ``max``, ``error_rate`` or ``throughput``.
        percent: of a percentile; None for the others.
        bound: in seconds, as a share from 0 to 1, or images per second.
    """

    text: str
    metric: str
    percent: float | None
    bound: float

    def measured(self, metrics: Metrics) -> float:
        """The metric that the objective bounds, in the bound's unit."""
        if self.percent is not None:
            return metrics.percentile_s(self.percent, of=self.metric)
        name = f"{self.metric}_s" if self.metric in ("mean", "max") else self.metric
        return float(getattr(metrics, name))

    def is_met_by(self, measured: float) -> bool:
        """Whether a measured value is within the bound: throughput at least, others at most."""
        return measured >= self.bound if self.metric == "throughput" else measured <= self.bound

    @property
    def smallest_sample(self) -> int:
        """Fewest requests that allow to evaluate the objective."""
        return 1 if self.percent is None else smallest_sample(self.percent)

    def show(self, measured: float) -> str:
        """A measured value with its unit."""
        if self.metric == "error_rate":
            return f"{measured:.3%}"
        return f"{measured:.2f}/s" if self.metric == "throughput" else milliseconds(measured)

    def describe(self, measured: float) -> str:
        """Text of a measured value, or why there is none."""
        if not math.isinf(measured):
            return f"measured {self.show(measured)}"
        if self.percent is None:
            return f"a request failed, so there is no {self.metric}"
        return f"over {100 - self.percent:g} % of requests failed, so there is no p{self.percent:g}"


def parse(text: str) -> tuple[Objective, ...]:
    """Read a list of objectives, separated by commas.

    Raises:
        UsageError: it is invalid, or has the wrong operator, such as ``throughput<=5/s``.
    """
    return tuple(_clause(part) for part in text.split(",") if part.strip())


def _clause(text: str) -> Objective:
    def invalid(reason: str) -> UsageError:
        return UsageError(f"invalid --slo {text.strip()!r}: {reason}")

    if not (found := _CLAUSE.fullmatch(text)):
        raise invalid(f"expected for example {_EXAMPLES}")
    metric, percent = found["name"], None
    if found["percent"]:
        metric, percent = "service" if found["service"] else "response", float(found["percent"])
        if not 0 < percent < 100:  # noqa: PLR2004  # per cent
            raise invalid("a percentile must be between 0 and 100; use max for the longest")
    units = _UNITS.get(metric, _TIME_UNITS)
    if found["unit"] not in units:
        raise invalid(f"the unit must be {' or '.join(unit or 'left out' for unit in units)}")
    if found["sign"] != (sign := ">=" if metric == "throughput" else "<="):
        raise invalid(f"{found['name']} needs {sign}")
    return Objective(text.strip(), metric, percent, float(found["number"]) * units[found["unit"]])
