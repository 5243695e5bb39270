"""A finished run: the recorded data, and the metrics, warnings, verdict and bottleneck computed from it."""

from __future__ import annotations

import dataclasses
import enum
import functools
from typing import Annotated, ClassVar

import numpy as np
from pydantic import ConfigDict, PlainSerializer, PlainValidator

from resnet_loadtest import bottleneck, metrics
from resnet_loadtest.metrics import Metrics, busiest_cpu, mean_in_flight, memory_growth
from resnet_loadtest.options import Options
from resnet_loadtest.percentiles import percentile
from resnet_loadtest.samples import (
    GeneratorMetrics,
    Samples,
    Status,
    decode,
    encode,
    images_answered,
    images_unanswered,
    response_s,
)
from resnet_loadtest.schedule import Stage
from resnet_loadtest.server_metrics import ServerSide
from resnet_loadtest.server_statistics import requests_served
from resnet_loadtest.slo import Objective, parse

_CPU_LIMIT = 0.9
_SENT_LIMIT = 0.99
# A run is invalid if lateness adds more than 10 ms and a tenth to the response time. Response times count from the
# scheduled time, so lateness only makes them longer.
_LATE_S = 0.010
_LATE_SHARE = 0.1


class Verdict(enum.Enum):
    """The outcome of a run: exit code and meaning."""

    PASS = (0, "every objective is met")
    MEASURED = (0, "valid; no objective was given")
    FAIL = (1, "an objective is not met")
    INVALID = (2, "the results are not valid")

    @property
    def exit_code(self) -> int:
        """Exit code of the command."""
        return self.value[0]

    @property
    def meaning(self) -> str:
        """Text for reports."""
        return self.value[1]


@dataclasses.dataclass(frozen=True)
class Check:
    """One objective and what was measured.

    Attributes:
        part: the stage, or ``"whole run"``.
        objective: as requested.
        measured: in the objective's unit.
    """

    part: str
    objective: Objective
    measured: float

    @property
    def is_met(self) -> bool:
        """Whether the measured value is within the bound."""
        return self.objective.is_met_by(self.measured)

    @property
    def message(self) -> str:
        """Text for reports."""
        return f"{self.part}: {self.objective.text} ({self.objective.describe(self.measured)})"


@dataclasses.dataclass(frozen=True, eq=False)
class Run:
    """A finished run.

    Attributes:
        options: of the run.
        started: local time with zone, ISO 8601.
        stages: the load over time.
        samples: every request.
        generator: what the generator measured about itself, in the order of time.
        server: what the server reports.
    """

    __pydantic_config__: ClassVar = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)

    options: Options
    started: str
    stages: tuple[Stage, ...]
    samples: Annotated[Samples, PlainValidator(decode), PlainSerializer(encode)]
    generator: list[GeneratorMetrics]
    server: ServerSide

    @functools.cached_property
    def whole(self) -> Metrics:
        """The metrics of the whole run."""
        return metrics.of_run(self.stages, self.samples)

    @functools.cached_property
    def parts(self) -> tuple[Metrics, ...]:
        """The metrics of each stage."""
        return tuple(metrics.of_stage(stage, self.samples) for stage in self.stages)

    @functools.cached_property
    def evaluated(self) -> tuple[Metrics, ...]:
        """The parts that must meet the objectives."""
        return self.parts if self.options.slo_per == "stage" else (self.whole,)

    @functools.cached_property
    def checks(self) -> list[Check]:
        """Each objective for each evaluated part."""
        objectives = parse(self.options.slo)
        return [Check(part.name, each, each.measured(part)) for part in self.evaluated for each in objectives]

    @functools.cached_property
    def generator_warnings(self) -> list[str]:
        """Signs that the run measured the generator instead of the server."""
        warnings = []
        for part in self.parts:
            if (cpu := self.generator_cpu(part)) > _CPU_LIMIT:
                warnings.append(f"{part.name}: the generator used {cpu:.0%} of its CPU core; increase --processes")
            if self.options.is_open_loop:
                warnings += [f"{part.name}: {warning}" for warning in _schedule_warnings(part)]
        return warnings

    @functools.cached_property
    def warnings(self) -> list[str]:
        """Everything that makes the run INVALID."""
        found = list(self.generator_warnings)
        if not len(self.samples):
            found.append("no request finished during the run")
        if counts := self._disagreement():
            found.append(counts)
        for part in self.evaluated:
            for objective in parse(self.options.slo):
                if part.requests < objective.smallest_sample:
                    needs = f"{objective.text} needs {objective.smallest_sample} requests"
                    found.append(f"{part.name}: {needs}, but there were {part.requests}; increase --duration")
        return found

    @functools.cached_property
    def verdict(self) -> Verdict:
        """The outcome; warnings come first, because an invalid result may meet or miss an objective."""
        if self.warnings:
            return Verdict.INVALID
        if not self.checks:
            return Verdict.MEASURED
        return Verdict.PASS if all(check.is_met for check in self.checks) else Verdict.FAIL

    @functools.cached_property
    def bottleneck(self) -> str:
        """The bottleneck in the stage with the highest load."""
        if self.generator_warnings:
            return f"The load generator, not the server: {self.generator_warnings[0]}."
        number = max(range(len(self.parts)), key=lambda number: self.parts[number].level)
        part = self.parts[number]
        message = bottleneck.describe(
            self.server.stage_steps[number],
            self.server.ensembles,
            answered=part.answered,
            service_s=part.mean_service_s,
            wall_s=self.wall_s - part.start_s if part is self.parts[-1] else part.duration_s,
        )
        return f"{message} Measured at {part.name}." if len({each.level for each in self.parts}) > 1 else message

    @property
    def wall_s(self) -> float:
        """Seconds until the last response, which may be after the end of the last stage."""
        return float(np.nanmax(self.samples["done_s"], initial=self.stages[-1].end_s))

    @property
    def memory_growth(self) -> float | None:
        """Growth of the generator's memory after warm-up, as a share."""
        return memory_growth(self.generator)

    def generator_cpu(self, part: Metrics) -> float:
        """CPU share of the busiest sending thread, 0 to 1."""
        return busiest_cpu(self.generator, part.start_s, part.end_s)

    def in_flight(self, part: Metrics) -> tuple[float, float] | None:
        """Mean requests in flight: as the generator counted them, and by Little's law from the samples.

        The law is used in the form that also holds for changing load: the time that all requests spent in flight in a
        part of the run, divided by its length. If the two differ, requests were lost or not recorded.
        """
        counted = mean_in_flight(self.generator, part.start_s, part.end_s)
        sent = self.samples[~np.isnan(self.samples["sent_s"])]
        if counted is None or not len(sent):
            return None
        inside = np.minimum(sent["done_s"], part.end_s) - np.maximum(sent["sent_s"], part.start_s)
        return counted, float(np.maximum(inside, 0.0).sum()) / part.duration_s

    def _disagreement(self) -> str:
        """How the counts of clients and server differ; empty if they agree."""
        answered, unanswered = images_answered(self.samples), images_unanswered(self.samples)
        counted = requests_served(self.server.steps, self.server.entries)
        if counted < answered:
            why = "the server was restarted, or the URL leads to several servers"
            return f"the clients received {answered} responses, but the server counted only {counted}: {why}"
        if counted > answered + unanswered and not self.options.shared_server:
            why = "other clients call it (accept them with --shared-server), or responses were lost"
            return f"the server counted {counted} responses, but the clients received {answered}: {why}"
        return ""


def _schedule_warnings(part: Metrics) -> list[str]:
    warnings = []
    unsent = part.failures.get(Status.UNSENT, 0)
    sent = 1 - unsent / part.requests if part.requests else 1.0
    if sent < _SENT_LIMIT:
        warnings.append(f"only {sent:.1%} of the scheduled requests were sent; increase --processes")
    response = response_s(part.samples[part.samples["status"] == Status.OK])
    for percent in (50, 99):
        late_s = part.late_s(percent)
        limit_s = max(_LATE_S, _LATE_SHARE * percentile(response, percent)) if len(response) else _LATE_S
        if late_s > limit_s:
            warnings.append(
                f"requests were sent late: {100 - percent} % by more than {late_s * 1000:.0f} ms (limit "
                f"{limit_s * 1000:.0f} ms); increase --processes, or use a machine with idle cores"
            )
    return warnings
