"""The objective: ``p99<=100ms``."""

from __future__ import annotations

import dataclasses
import math
import re
import statistics
from collections.abc import Sequence

from resnet_build.errors import UsageError

_FORM = re.compile(r"\s*p(?P<percent>\d{1,2}(\.\d{1,3})?)\s*<=\s*(?P<number>\d+(\.\d+)?)\s*(?P<unit>ms|s)\s*")
_UNITS = {"ms": 1e-3, "s": 1.0}
# So many bounds long is a load at least: it must not end before a queue that grows has reached the bound.
SPAN_IN_BOUNDS = 10
# A queue grows if its second half waits longer by this ratio, and by this share of the whole span: both happen by
# chance, but seldom together where the machine has a tenth to spare.
_GROWN_BY = 1.5
_GROWN_SHARE = 0.01


@dataclasses.dataclass(frozen=True)
class Slo:
    """A bound on a percentile of the latency.

    Attributes:
        text: as written.
        share: of the photos that the bound is for, between 0 and 1.
        bound_s: in seconds.
    """

    text: str
    share: float
    bound_s: float

    def value_s(self, latencies_s: Sequence[float]) -> float:
        """Return the percentile of sorted latencies, the smallest that at least ``share`` do not exceed."""
        return latencies_s[max(0, _ceil(self.share * len(latencies_s)) - 1)]

    def is_met(self, latencies_s: Sequence[float]) -> bool:
        """Whether sorted latencies keep the bound."""
        return self.value_s(latencies_s) <= self.bound_s

    @property
    def smallest_sample(self) -> int:
        """Photos that it takes so that two may lie above the bound."""
        return _ceil(2 / (1 - self.share))


def _ceil(number: float) -> int:
    """Round up what is above a whole number by more than a share like 0.999 is off as a float."""
    return math.ceil(round(number, 6))


def is_growing(runs: Sequence[Sequence[float]], span_s: float) -> bool:
    """Whether photos wait clearly longer in the second half than in the first: then no bound holds for long.

    Args:
        runs: latencies in seconds, each run in the order of arrival.
        span_s: seconds in which the photos of one run came.
    """
    first = [one for run in runs for one in run[: len(run) // 2]]
    second = [one for run in runs for one in run[len(run) // 2 :]]
    if not first:
        return False
    # Medians: a hiccup is no growth.
    first_s, second_s = statistics.median(first), statistics.median(second)
    return second_s > _GROWN_BY * first_s and second_s - first_s > _GROWN_SHARE * span_s


def parse(text: str) -> Slo:
    """Read an objective.

    Raises:
        UsageError: it is none.
    """
    found = _FORM.fullmatch(text)
    if not found or not (share := float(found["percent"]) / 100) or not (number := float(found["number"])):
        raise UsageError(f"--slo {text!r} is no objective; write for example p99<=100ms")
    return Slo(text.strip(), share, number * _UNITS[found["unit"]])
