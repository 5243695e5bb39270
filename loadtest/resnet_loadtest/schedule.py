"""Load over time: named profiles, cut into stages that are judged one by one."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TypeAlias


@dataclasses.dataclass(frozen=True)
class Stage:
    """A stretch of a run.

    Attributes:
        name: for reports.
        start_s: seconds since the run began.
        duration_s: seconds.
        start_level: requests per second (open loop) or users (closed loop) at its start.
        end_level: the same at its end; between them the level changes evenly.
    """

    name: str
    start_s: float
    duration_s: float
    start_level: float
    end_level: float

    @property
    def end_s(self) -> float:
        """Seconds since the run began."""
        return self.start_s + self.duration_s

    @property
    def mean_level(self) -> float:
        """Requests per second, or users, on average."""
        return (self.start_level + self.end_level) / 2

    def level_at(self, time_s: float) -> float:
        """Requests per second, or users, at a time of this stage."""
        share = (time_s - self.start_s) / self.duration_s
        return self.start_level + (self.end_level - self.start_level) * min(1.0, max(0.0, share))


# Name, share of the duration, level at start and end as multiples of the level asked for.
_Part: TypeAlias = tuple[str, float, float, float]


def _steady() -> list[_Part]:
    return [("steady", 1.0, 1.0, 1.0)]


def _ramp() -> list[_Part]:
    return [(f"ramp {i * 20}-{i * 20 + 20} %", 0.2, i / 5, (i + 1) / 5) for i in range(5)]


def _steps() -> list[_Part]:
    return [(f"step {i * 20} %", 0.2, i / 5, i / 5) for i in range(1, 6)]


def _spike() -> list[_Part]:
    return [("before", 0.4, 1.0, 1.0), ("spike", 0.2, 3.0, 3.0), ("after", 0.4, 1.0, 1.0)]


def _soak() -> list[_Part]:
    return [(f"part {i} of 5", 0.2, 1.0, 1.0) for i in range(1, 6)]


@dataclasses.dataclass(frozen=True)
class Profile:
    """A named course of the load.

    Attributes:
        question: what it answers.
        duration_s: how long unless asked otherwise, in seconds.
        parts: its parts.
    """

    question: str
    duration_s: float
    parts: Callable[[], list[_Part]]


PROFILES = {
    "steady": Profile("does it hold the objective at this load?", 60, _steady),
    "ramp": Profile("from which load on does it get slow?", 60, _ramp),
    "steps": Profile("how does latency grow with load? (draws the rate-latency curve)", 60, _steps),
    "spike": Profile("does it survive three times the load, and recover?", 60, _spike),
    "soak": Profile("does it stay as it is for long, without leaks?", 600, _soak),
}


def stages(profile: str, level: float, duration_s: float | None = None) -> tuple[Stage, ...]:
    """The stages of a named profile.

    Args:
        profile: one of :data:`PROFILES`.
        level: requests per second, or users; the spike goes to three times this, no other profile above it.
        duration_s: of all stages together, in seconds; None for the profile's own.
    """
    chosen = PROFILES[profile]
    whole_s = duration_s or chosen.duration_s
    result: list[Stage] = []
    start_s = 0.0
    for name, share, first, last in chosen.parts():
        result.append(Stage(name, start_s, whole_s * share, level * first, level * last))
        start_s += whole_s * share
    return tuple(result)
