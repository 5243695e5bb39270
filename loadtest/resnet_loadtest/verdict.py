"""From figures to one word: PASS, MISSED or INVALID; or MEASURED where no objective was given."""

from __future__ import annotations

import dataclasses
import enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from resnet_loadtest.metrics import Figures
    from resnet_loadtest.slo import Objective


class Verdict(enum.Enum):
    """The outcome of a run; its value is the exit code."""

    PASS = (0, "every objective is met")
    MEASURED = (0, "valid; no objective was asked for")
    MISSED = (1, "an objective is missed")
    INVALID = (2, "the run proves nothing")

    @property
    def exit_code(self) -> int:
        """For the shell."""
        return self.value[0]

    @property
    def meaning(self) -> str:
        """In words."""
        return self.value[1]


@dataclasses.dataclass(frozen=True)
class Check:
    """One objective against what was measured.

    Attributes:
        part: the stage, or ``"whole run"``.
        objective: as asked.
        measured: in the objective's unit.
    """

    part: str
    objective: Objective
    measured: float

    @property
    def is_met(self) -> bool:
        """Whether it is good enough."""
        return self.objective.is_met_by(self.measured)


def check(parts: Sequence[Figures], objectives: Sequence[Objective]) -> list[Check]:
    """Hold every objective against every part."""
    return [Check(part.name, objective, objective.measured(part)) for part in parts for objective in objectives]


def conclude(checks: Sequence[Check], doubts: Sequence[str]) -> Verdict:
    """The verdict: doubt comes first, because a wrong number can please as well as displease."""
    if doubts:
        return Verdict.INVALID
    if not checks:
        return Verdict.MEASURED
    return Verdict.PASS if all(check.is_met for check in checks) else Verdict.MISSED
