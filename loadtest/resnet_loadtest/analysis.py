"""Everything a run brought home, and what to think of it."""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING

import numpy as np

from resnet_loadtest import bottleneck, validity
from resnet_loadtest import metrics as figures
from resnet_loadtest.counts import disagreement
from resnet_loadtest.generator_metrics import busiest, mean_in_flight, memory_growth
from resnet_loadtest.slo import parse
from resnet_loadtest.verdict import Check, Verdict, check, conclude

if TYPE_CHECKING:
    from collections.abc import Mapping

    from resnet_loadtest.generator_metrics import Gauge
    from resnet_loadtest.metrics import Figures
    from resnet_loadtest.options import Options
    from resnet_loadtest.samples import Samples
    from resnet_loadtest.schedule import Stage
    from resnet_loadtest.server_metrics import Reading
    from resnet_loadtest.server_statistics import Step


@dataclasses.dataclass(frozen=True, eq=False)
class ServerSide:
    """What the server said of the run.

    Attributes:
        name: its name and version.
        steps: model → what it did.
        stage_steps: the same for each stage; the last one's end with the last answer.
        entries: the models that clients called → the ensemble each is a step of; empty for none.
        ensembles: models that only pass on to others.
        readings: its metrics over time.
        failures: (model, reason) → failed requests.
        note: why something is missing; empty if nothing is.
    """

    name: str
    steps: Mapping[str, Step]
    stage_steps: tuple[Mapping[str, Step], ...]
    entries: Mapping[str, str]
    ensembles: frozenset[str]
    readings: tuple[Reading, ...]
    failures: Mapping[tuple[str, str], int]
    note: str = ""


@dataclasses.dataclass(frozen=True, eq=False)
class Run:
    """A finished run.

    Attributes:
        options: what was asked for.
        started: local time with zone, ISO 8601.
        stages: the course of the load.
        samples: every request.
        gauges: what the generator saw of itself.
        server: the other side.
    """

    options: Options
    started: str
    stages: tuple[Stage, ...]
    samples: Samples
    gauges: list[Gauge]
    server: ServerSide

    @functools.cached_property
    def whole(self) -> Figures:
        """The figures of the whole run."""
        return figures.of_run(self.stages, self.samples)

    @functools.cached_property
    def parts(self) -> tuple[Figures, ...]:
        """The figures of each stage."""
        return tuple(figures.of_stage(stage, self.samples) for stage in self.stages)

    @functools.cached_property
    def judged(self) -> tuple[Figures, ...]:
        """What objectives are held against."""
        return self.parts if self.options.slo_per == "stage" else (self.whole,)

    @functools.cached_property
    def checks(self) -> list[Check]:
        """Each objective against each judged part."""
        return check(self.judged, parse(self.options.slo))

    @functools.cached_property
    def generator_doubts(self) -> list[str]:
        """Signs that the generator was the limit."""
        return validity.generator_doubts(self.parts, self.gauges, is_open_loop=self.options.is_open_loop)

    @functools.cached_property
    def doubts(self) -> list[str]:
        """All that makes the run INVALID."""
        found = list(self.generator_doubts)
        if not len(self.samples):
            found.append("no request ended in the time of the run")
        counts = disagreement(
            self.samples, self.server.steps, self.server.entries, is_shared=self.options.shared_server
        )
        return [*found, *([counts] if counts else []), *validity.sample_doubts(self.judged, parse(self.options.slo))]

    @functools.cached_property
    def verdict(self) -> Verdict:
        """The outcome."""
        return conclude(self.checks, self.doubts)

    @functools.cached_property
    def limit(self) -> str:
        """One sentence on what limits, where the load is highest."""
        if self.generator_doubts:
            return f"The load generator limits, not the server: {self.generator_doubts[0]}."
        number = max(range(len(self.parts)), key=lambda number: self.parts[number].level)
        part = self.parts[number]
        said = bottleneck.sentence(
            self.server.stage_steps[number],
            self.server.ensembles,
            answered=part.answered,
            service_s=part.mean_service_s,
            wall_s=self.wall_s - part.start_s if part is self.parts[-1] else part.duration_s,
        )
        return said if len(self.parts) == 1 else f"{part.name}: {said}"

    @property
    def wall_s(self) -> float:
        """Seconds until the last answer, those after the last stage's end included."""
        return float(np.nanmax(self.samples["done_s"], initial=self.stages[-1].end_s))

    @property
    def memory_growth(self) -> float | None:
        """Growth of the generator's memory after warming up, as a share."""
        return memory_growth(self.gauges)

    def busiest(self, part: Figures) -> float:
        """CPU share of the busiest sending thread, 0 to 1."""
        return busiest(self.gauges, part.start_s, part.end_s)

    def little(self, part: Figures) -> tuple[float, float] | None:
        """Requests under way, twice: as seen by looking, and by Little's law from the requests' own times.

        The law in the form that also holds for unsteady load: the time that all requests spent under way
        within a stretch of time, divided by its length. If the two differ, requests were lost or not seen.
        """
        seen = mean_in_flight(self.gauges, part.start_s, part.end_s)
        sent = self.samples[~np.isnan(self.samples["sent_s"])]
        if seen is None or not len(sent):
            return None
        inside = np.minimum(sent["done_s"], part.end_s) - np.maximum(sent["sent_s"], part.start_s)
        return seen, float(np.maximum(inside, 0.0).sum()) / part.duration_s
