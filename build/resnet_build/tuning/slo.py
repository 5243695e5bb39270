"""The objective: ``p99<=100ms``."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Sequence

from resnet_build.errors import UsageError

_FORM = re.compile(r"\s*p(?P<percent>\d{1,2}(\.\d{1,3})?)\s*<=\s*(?P<number>\d+(\.\d+)?)\s*(?P<unit>ms|s)\s*")
_UNITS = {"ms": 1e-3, "s": 1.0}


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
        return latencies_s[max(0, math.ceil(self.share * len(latencies_s)) - 1)]

    def is_met(self, latencies_s: Sequence[float]) -> bool:
        """Whether sorted latencies keep the bound."""
        return self.value_s(latencies_s) <= self.bound_s

    @property
    def smallest_sample(self) -> int:
        """Photos that it takes so that two may lie above the bound."""
        return math.ceil(2 / (1 - self.share))


def parse(text: str) -> Slo:
    """Read an objective.

    Raises:
        UsageError: it is none.
    """
    found = _FORM.fullmatch(text)
    if not found or not (share := float(found["percent"]) / 100) or not (number := float(found["number"])):
        raise UsageError(f"--slo {text!r} is no objective; write for example p99<=100ms")
    return Slo(text.strip(), share, number * _UNITS[found["unit"]])
