"""Reads the server's statistics and metrics before, during and after a run.

The client reads the statistics. The metrics endpoint adds CPU, memory and GPU metrics in Prometheus' text format.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import re
import statistics
import time
from collections.abc import Mapping

from resnet_client import Client, ModelStatistics, ResnetClientError
from resnet_client.metrics import fetch
from resnet_client.printing import printable

from resnet_loadtest.samples import Samples, only_answered
from resnet_loadtest.server_statistics import Step, difference, requests_served

_POLL_S = 0.02
# Triton updates statistics some milliseconds after the response, on a busy server later.
_SETTLE_S = 5.0
# In Prometheus' text format: name{gpu_uuid="…"} number; those of the machine have no label.
_LINE = re.compile(
    r'^(nv_[cg]pu_(?:utilization|memory_used_bytes))(?:\{gpu_uuid="([^"]*)"\})? ([0-9]+(?:\.[0-9]+)?(?:e[+-][0-9]+)?)$',
    re.MULTILINE,
)
_CPU = "nv_cpu_utilization"
_CPU_INTERVAL_S = 2.0


@dataclasses.dataclass(frozen=True)
class Reading:
    """One reading of the endpoint.

    Attributes:
        time_s: seconds since the run began.
        values: name of the metric, with the GPU's number → value in Triton's unit (shares from 0 to 1, bytes).
    """

    time_s: float
    values: Mapping[str, float]


@dataclasses.dataclass(frozen=True, eq=False)
class ServerSide:
    """What the server reports about a run.

    Attributes:
        name: its name and version.
        steps: model → what it did.
        stage_steps: the same for each stage; those of the last stage end with the last response.
        entries: model that clients called → ensemble of which it is a step; empty for none.
        ensembles: names of ensembles.
        readings: of its metrics.
        note: why metrics are missing; empty if they are not.
    """

    name: str
    steps: Mapping[str, Step]
    stage_steps: tuple[Mapping[str, Step], ...]
    entries: Mapping[str, str]
    ensembles: frozenset[str]
    readings: tuple[Reading, ...]
    note: str = ""

    def cpu(self, start_s: float, end_s: float) -> float | None:
        """Mean CPU utilization of the server's machine in that time, 0 to 1; None without a reading."""
        # A reading is about the two seconds before it.
        inside = [each.values for each in self.readings if start_s < each.time_s <= end_s + _CPU_INTERVAL_S]
        known = [values[_CPU] for values in inside if _CPU in values]
        return statistics.fmean(known) if known else None


class Observer:
    """Reads the server during one run.

    Attributes:
        answered_s: when it last answered, in seconds of ``time.monotonic()``.
        readings: of its metrics so far.
    """

    def __init__(self, client: Client, metrics_url: str, entries: dict[str, str]) -> None:
        """Read statistics before the run.

        Args:
            client: connected to the server.
            metrics_url: its metrics endpoint.
            entries: model that clients will call → ensemble of which it is a step; empty for none.
        """
        self._client = client
        self._url = metrics_url
        self._entries = entries
        self._note = ""
        self.readings: list[Reading] = []
        self._latest = self._settled()
        self._stages = [self._latest]
        server = client.metadata()["server"]
        self._name = f"{server['name']} {server['version']}"
        self._ensembles = frozenset(each.model for each in self._latest if self._is_ensemble(each.model))
        self.answered_s = time.monotonic()

    def read(self, time_s: float) -> None:
        """Read metrics and statistics; if a server does not answer, keep the last ones."""
        try:
            self.readings.append(Reading(time_s, parse_values(fetch(self._url))))
        except OSError as exc:
            self._note = printable(f"{self._url} returned no metrics: {exc}; set --metrics-url")
        self._read_statistics()

    def end_stage(self) -> None:
        """Read the statistics between two stages; if the server does not answer, repeat the last ones."""
        self._read_statistics()
        self._stages.append(self._latest)

    def conclude(self, samples: Samples) -> None:
        """Read for the last time, when the server has counted all responses or a timeout has passed.

        Raises:
            ResnetClientError: the server does not answer.
        """
        deadline_s = time.monotonic() + _SETTLE_S
        while True:
            self._latest = self._settled()
            steps = difference(self._stages[0], self._latest)
            if requests_served(steps, self._entries) >= len(only_answered(samples)) or time.monotonic() >= deadline_s:
                return

    def server_side(self, *, first_reading: int = 0) -> ServerSide:
        """What the server has reported so far, with the readings from that number on."""
        return ServerSide(
            name=self._name,
            steps=difference(self._stages[0], self._latest),
            stage_steps=tuple(difference(*pair) for pair in itertools.pairwise([*self._stages, self._latest])),
            entries=self._entries,
            ensembles=self._ensembles,
            readings=tuple(self.readings[first_reading:]),
            note="" if self.readings else self._note,
        )

    def _read_statistics(self) -> None:
        with contextlib.suppress(ResnetClientError):
            self._latest = self._client.statistics()
            self.answered_s = time.monotonic()

    def _settled(self) -> tuple[ModelStatistics, ...]:
        """Read statistics until they no longer change."""
        deadline_s = time.monotonic() + _SETTLE_S
        last, now = None, self._client.statistics()
        while now != last and time.monotonic() < deadline_s:
            time.sleep(_POLL_S)
            last, now = now, self._client.statistics()
        return now

    def _is_ensemble(self, model: str) -> bool:
        return bool(self._client.metadata(model=model)["model"]["platform"] == "ensemble")


def parse_values(text: str) -> dict[str, float]:
    """Processor, memory and GPU metrics in the endpoint's text."""
    gpus: dict[str, str] = {"": ""}
    return {name + gpus.setdefault(gpu, f" {len(gpus) - 1}"): float(value) for name, gpu, value in _LINE.findall(text)}
