"""Service level objectives: ``p99<=150ms,error_rate<=0.1%,throughput>=15/s``."""

from __future__ import annotations

import dataclasses
import math
import operator
import re
from typing import TYPE_CHECKING

from resnet_loadtest.quantiles import smallest_sample

if TYPE_CHECKING:
    from resnet_loadtest.metrics import Figures

GRAMMAR = "p99<=150ms, service_p99<=150ms, mean<=50ms, max<=2s, error_rate<=0.1%, throughput>=15/s"

_CLAUSE = re.compile(
    r"^\s*(?P<metric>[a-z_]+[0-9.]*)\s*(?P<sign><=|>=|<|>)\s*(?P<number>[0-9.]+)\s*(?P<unit>[a-zµ%/]*)\s*$"
)
_PERCENTILE = re.compile(r"^(?P<service>service_)?p(?P<percent>[0-9]+(\.[0-9]+)?)$")
_OPERATORS = {"<=": operator.le, "<": operator.lt, ">=": operator.ge, ">": operator.gt}
_TIME_UNITS = {"us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0}


@dataclasses.dataclass(frozen=True)
class Objective:
    """One clause.

    Attributes:
        text: as written.
        metric: ``response``, ``service``, ``mean``, ``max``, ``error_rate`` or ``throughput``.
        percent: of a percentile; None for the others.
        sign: ``<=``, ``<``, ``>=`` or ``>``.
        bound: in seconds, as a share from 0 to 1, or photos per second.
    """

    text: str
    metric: str
    percent: float | None
    sign: str
    bound: float

    def measured(self, figures: Figures) -> float:
        """What the objective is about, in the bound's unit."""
        if self.metric in ("response", "service"):
            return figures.percentile_s(self.percent or 0.0, of=self.metric)
        known = {
            "mean": figures.mean_s,
            "max": figures.max_s,
            "error_rate": figures.error_rate,
            "throughput": figures.throughput,
        }
        return known[self.metric]

    def is_met_by(self, measured: float) -> bool:
        """Whether a measured value is good enough."""
        return bool(_OPERATORS[self.sign](measured, self.bound))

    @property
    def smallest_sample(self) -> int:
        """How many requests it takes to judge this."""
        return 1 if self.percent is None else smallest_sample(self.percent)

    def show(self, measured: float) -> str:
        """A measured value with its unit."""
        if self.metric == "error_rate":
            return f"{measured:.3%}"
        if self.metric == "throughput":
            return f"{measured:.2f}/s"
        return "never" if measured == float("inf") else f"{measured * 1000:.1f} ms"


def parse(text: str) -> tuple[Objective, ...]:
    """Read a list of objectives, separated by commas.

    Raises:
        ValueError: it cannot be read, or asks for nonsense such as ``throughput<=5/s``.
    """
    return tuple(_clause(part) for part in text.split(",") if part.strip())


def _clause(text: str) -> Objective:
    found = _CLAUSE.match(text)
    if not found:
        raise ValueError(f"{text.strip()!r} is no objective; write for example {GRAMMAR}")
    metric, percent = _metric(found["metric"], text)
    bound = _bound(metric, found["number"], found["unit"], text)
    is_upper = found["sign"].startswith("<")
    if is_upper == (metric == "throughput"):
        better = "at least (>=)" if metric == "throughput" else "at most (<=)"
        raise ValueError(f"{text.strip()!r}: {found['metric']} is good when it is {better} the bound")
    return Objective(text.strip(), metric, percent, found["sign"], bound)


def _metric(name: str, text: str) -> tuple[str, float | None]:
    if found := _PERCENTILE.match(name):
        percent = float(found["percent"])
        if not 0 < percent < 100:  # noqa: PLR2004  # per cent
            raise ValueError(f"{text.strip()!r}: a percentile lies between 0 and 100; write max for the largest")
        return "service" if found["service"] else "response", percent
    if name in ("mean", "max", "error_rate", "throughput"):
        return name, None
    raise ValueError(f"{text.strip()!r}: {name} is not known; write for example {GRAMMAR}")


def _bound(metric: str, number: str, unit: str, text: str) -> float:
    units = {"error_rate": {"%": 0.01, "": 1.0}, "throughput": {"/s": 1.0}}.get(metric, _TIME_UNITS)
    if unit not in units:
        known = " or ".join(unit or "no unit" for unit in units)
        raise ValueError(f"{text.strip()!r}: the unit must be {known}")
    try:
        bound = float(number) * units[unit]
    except ValueError:
        bound = math.inf
    if not math.isfinite(bound):
        raise ValueError(f"{text.strip()!r}: {number!r} is no number")
    return bound
