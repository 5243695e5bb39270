"""A finished run: the recorded data, and the metrics, findings, verdict and bottleneck computed from it."""

from __future__ import annotations

import dataclasses
import enum
import functools
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import ConfigDict, PlainSerializer, PlainValidator

from resnet_loadtest import bottleneck, metrics
from resnet_loadtest.metrics import CPU_LIMIT, Metrics, busiest_cpu
from resnet_loadtest.options import Options
from resnet_loadtest.percentiles import confidence_interval, percentile
from resnet_loadtest.samples import (
    UNANSWERED,
    GeneratorMetrics,
    Samples,
    Status,
    decode,
    durations_s,
    encode,
    lateness_s,
    only_answered,
)
from resnet_loadtest.schedule import Stage
from resnet_loadtest.server_metrics import ServerSide
from resnet_loadtest.server_statistics import requests_served
from resnet_loadtest.slo import Objective, parse

_SENT_LIMIT = 0.99
_MANY_FAILED = 0.01
_KEPT_UP = 0.95
# A stage is invalid if lateness adds more than 10 ms and a tenth to the response time. Response times count from the
# scheduled time, so lateness only makes them longer.
_LATE_S = 0.010
_LATE_SHARE = 0.1


class Verdict(enum.Enum):
    """The outcome of a run or a stage.

    Attributes:
        exit_code: of the command.
        meaning: for reports.
    """

    PASS = (0, "every objective is met")
    MEASURED = (0, "valid; no objective was given")
    FAIL = (1, "an objective is not met")
    INVALID = (2, "the results are not valid")
    UNREACHABLE = (3, "the server is unreachable; the results are those until then")
    WORKER_LOST = (3, "a worker was lost; the results are those until then")
    INTERRUPTED = (130, "the run was interrupted; the results are those until then")

    def __init__(self, exit_code: int, meaning: str) -> None:
        self.exit_code = exit_code
        self.meaning = meaning

    @property
    def label(self) -> str:
        """The name, for reports."""
        return self.name.replace("_", " ")


@dataclasses.dataclass(frozen=True)
class Check:
    """One objective and what was measured.

    Attributes:
        part: the stage, or ``"whole run"``.
        objective: as requested.
        measured: in the objective's unit.
        requests: how many were measured.
    """

    part: str
    objective: Objective
    measured: float
    requests: int

    @property
    def verdict(self) -> Verdict:
        """Whether the measured value is within the bound; INVALID if there were too few requests to know."""
        if self.requests < self.objective.smallest_sample:
            return Verdict.INVALID
        return Verdict.PASS if self.objective.is_met_by(self.measured) else Verdict.FAIL

    @property
    def message(self) -> str:
        """Text for reports."""
        word = {Verdict.PASS: "met", Verdict.FAIL: "failed", Verdict.INVALID: "undecided"}[self.verdict]
        needed = f"; needs {self.objective.smallest_sample} requests, but there were {self.requests}; "
        few = f"{needed}increase --duration" if self.verdict is Verdict.INVALID else ""
        return f"{word}: {self.part}: {self.objective.text} ({self.objective.describe(self.measured)}{few})"


@dataclasses.dataclass(frozen=True)
class Ending:
    """Why a run ended before its time, or without the server.

    Attributes:
        kind: name of the verdict.
        reason: for reports.
    """

    kind: Literal["INTERRUPTED", "UNREACHABLE", "WORKER_LOST"]
    reason: str


@dataclasses.dataclass(frozen=True, eq=False)
class Run:
    """A finished run.

    Attributes:
        options: of the run.
        started: local time with zone, ISO 8601.
        stages: the load over time.
        samples: every request.
        generator: what the generator measured about itself.
        server: what the server reports.
        ended: why it ended early; None if it did not.
    """

    __pydantic_config__: ClassVar = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)

    options: Options
    started: str
    stages: tuple[Stage, ...]
    samples: Annotated[Samples, PlainValidator(decode), PlainSerializer(encode)]
    generator: list[GeneratorMetrics]
    server: ServerSide
    ended: Ending | None = None

    @functools.cached_property
    def whole(self) -> Metrics:
        """The metrics of the whole run."""
        return metrics.of_run(self.stages, self.samples)

    @functools.cached_property
    def parts(self) -> tuple[Metrics, ...]:
        """The metrics of each stage; only the whole run if there is one stage."""
        if len(self.stages) == 1:
            return (self.whole,)
        return tuple(metrics.of_stage(stage, self.samples) for stage in self.stages)

    @functools.cached_property
    def shown(self) -> tuple[Metrics, ...]:
        """The stages and the whole run; only this if there is one stage."""
        return (*self.parts, self.whole) if len(self.parts) > 1 else self.parts

    @functools.cached_property
    def evaluated(self) -> tuple[Metrics, ...]:
        """The parts that must meet the objectives."""
        return self.parts if self.options.slo_per == "stage" else (self.whole,)

    @functools.cached_property
    def checks(self) -> list[Check]:
        """Each objective for each evaluated part."""
        objectives = parse(self.options.slo)
        return [
            Check(part.name, each, each.measured(part), part.requests) for part in self.evaluated for each in objectives
        ]

    @functools.cached_property
    def findings(self) -> list[tuple[str, str]]:
        """Part and reason, for everything but too few requests that makes a stage or the whole run INVALID."""
        found = [(part.name, reason) for part in self.shown for reason in self.generator_findings(part)]
        found += [
            (part.name, "no request was scheduled; increase --rate or --duration")
            for part in self.shown
            if not part.requests
        ]
        return found + ([(self.whole.name, self._disagreement)] if self._disagreement else [])

    @property
    def warnings(self) -> list[str]:
        """Everything that makes a stage or the whole run INVALID, for reports."""
        undecided = [check.message for check in self.checks if check.verdict is Verdict.INVALID]
        return [f"{part}: {reason}" for part, reason in self.findings] + undecided

    @property
    def meaning(self) -> str:
        """The meaning of the verdict, for reports."""
        if self.ended:
            return f"{self.verdict.meaning} ({self.ended.reason})"
        if self.verdict is Verdict.MEASURED and self.whole.error_rate > _MANY_FAILED:
            return f"{self.verdict.meaning}, but {self.whole.error_rate:.0%} of the requests failed"
        return self.verdict.meaning

    @property
    def headline(self) -> Metrics:
        """The stage with the highest load that the server kept up with; the whole run if there is none."""
        kept_up = [
            part
            for part in self.parts
            if part.requests and part.error_rate <= _MANY_FAILED and part.throughput >= _KEPT_UP * part.offered
        ]
        return max(kept_up, key=lambda part: part.level, default=self.whole)

    def verdict_of(self, part: Metrics) -> Verdict:
        """The verdict on a stage or on the whole run."""
        if self._disagreement or any(name == part.name for name, _ in self.findings):
            return Verdict.INVALID
        return _deciding({check.verdict for check in self.checks if check.part == part.name})

    @functools.cached_property
    def verdict(self) -> Verdict:
        """The outcome; a valid stage that misses its objective decides, whatever the others are."""
        if self.ended:
            return Verdict[self.ended.kind]
        return _deciding({self.verdict_of(part) for part in self.evaluated})

    @functools.cached_property
    def bottleneck(self) -> str:
        """The bottleneck in the stage with the highest load."""
        return bottleneck.describe(self)

    @property
    def wall_s(self) -> float:
        """Seconds until the last response, which may be after the end of the last stage."""
        return float(np.nanmax(self.samples["done_s"], initial=self.stages[-1].end_s))

    def generator_cpu(self, part: Metrics) -> float:
        """CPU share of the busiest sending thread, 0 to 1."""
        return busiest_cpu(self.generator, part.start_s, part.end_s)

    def generator_findings(self, part: Metrics) -> list[str]:
        """Signs that a part measured the generator instead of the server."""
        found = []
        if (cpu := self.generator_cpu(part)) > CPU_LIMIT:
            found.append(f"the generator used {cpu:.0%} of its CPU core; increase --processes")
        return found + (_schedule_findings(part) if self.options.is_open_loop else [])

    @functools.cached_property
    def _disagreement(self) -> str:
        """How the counts of clients and server differ; empty if they agree, or if the run ended before all counted."""
        if self.ended:
            return ""
        received = len(only_answered(self.samples))
        unanswered = int(np.isin(self.samples["status"], UNANSWERED).sum())
        counted = requests_served(self.server.steps, self.server.entries)
        if counted < received:
            why = "the server was restarted, or the URL leads to several servers"
            return f"the clients received {received} responses, but the server counted only {counted}: {why}"
        if counted > received + unanswered and not self.options.shared_server:
            why = "other clients call it (accept them with --shared-server), or responses were lost"
            return f"the server counted {counted} responses, but the clients received {received}: {why}"
        return ""


def _deciding(verdicts: set[Verdict]) -> Verdict:
    """The verdict on several objectives or stages; one that is not met decides over one that is undecided."""
    return next((each for each in (Verdict.FAIL, Verdict.INVALID, Verdict.PASS) if each in verdicts), Verdict.MEASURED)


def _schedule_findings(part: Metrics) -> list[str]:
    found = []
    unsent = part.failures.get(Status.UNSENT, 0)
    sent = 1 - unsent / part.requests if part.requests else 1.0
    if sent < _SENT_LIMIT:
        found.append(f"only {sent:.1%} of the scheduled requests were sent; increase --processes")
    # With few requests, one late request is not yet a late percentile: the lower end of its interval decides.
    late = lateness_s(part.samples)
    response = durations_s(only_answered(part.samples))
    for percent in (50, 99):
        late_s = confidence_interval(late, percent)[0] if len(late) else 0.0
        limit_s = max(_LATE_S, _LATE_SHARE * percentile(response, percent)) if len(response) else _LATE_S
        if late_s > limit_s:
            found.append(
                f"requests were sent late: {100 - percent} % by more than {late_s * 1000:.0f} ms (limit "
                f"{limit_s * 1000:.0f} ms); increase --processes, or use a machine with idle cores"
            )
    return found
