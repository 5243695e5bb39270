"""Reads the server's statistics and metrics before, during and after a run.

The client reads the statistics. The metrics endpoint adds CPU, memory and GPU metrics in Prometheus' text format.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import itertools
import math
import re
import statistics
import time
from collections.abc import Iterator, Mapping

from resnet_client import Client, ModelStatistics, ResnetClientError
from resnet_client.metrics import fetch

from resnet_loadtest.samples import Samples, images_answered
from resnet_loadtest.server_statistics import Step, difference, requests_served

_POLL_S = 0.02
# Triton updates statistics some milliseconds after the response, on a busy server later.
_SETTLE_S = 5.0
# Prometheus' text format: name{label="value",…} number; in a value, a \ escapes \, " and line ends.
_LINE = re.compile(r'^(?P<name>nv_[a-z_]+)(\{(?P<labels>([^"}]|"([^"\\]|\\.)*")*)\})?\s+(?P<value>\S+)')
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')

_CPU = "nv_cpu_utilization"
_CPU_INTERVAL_S = 2.0
_NAMES = {
    _CPU,
    "nv_cpu_memory_used_bytes",
    "nv_gpu_utilization",
    "nv_gpu_memory_used_bytes",
    "nv_gpu_power_usage",
}


@dataclasses.dataclass(frozen=True)
class Reading:
    """One reading of the endpoint.

    Attributes:
        time_s: seconds since the run began.
        values: name of the metric, with the GPU's number where there are several → value in Triton's unit
            (shares from 0 to 1, bytes, watts).
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
        failures: model → reason → failed requests.
        note: why metrics are missing; empty if they are not.
    """

    name: str
    steps: Mapping[str, Step]
    stage_steps: tuple[Mapping[str, Step], ...]
    entries: Mapping[str, str]
    ensembles: frozenset[str]
    readings: tuple[Reading, ...]
    failures: Mapping[str, Mapping[str, int]]
    note: str = ""

    def cpu(self, start_s: float, end_s: float) -> float | None:
        """Mean CPU utilization of the server's machine in that time, 0 to 1; None without a reading."""
        # A reading is about the two seconds before it.
        inside = [each.values.get(_CPU) for each in self.readings if start_s < each.time_s <= end_s + _CPU_INTERVAL_S]
        known = [value for value in inside if value is not None]
        return statistics.fmean(known) if known else None


class Observer:
    """Reads the server during one run."""

    def __init__(self, client: Client, metrics_url: str, entries: dict[str, str]) -> None:
        """Read statistics and failures before the run.

        Args:
            client: connected to the server.
            metrics_url: its metrics endpoint.
            entries: model that clients will call → ensemble of which it is a step; empty for none.
        """
        self._client = client
        self._url = metrics_url
        self._entries = entries
        self._readings: list[Reading] = []
        self._note = ""
        self._failures_before = self._failures_after = self._failures()
        self._latest = self._settled()
        self._stages = [self._latest]
        self._name = self._server_name()
        self._ensembles = frozenset(each.model for each in self._latest if self._is_ensemble(each.model))

    def read(self, time_s: float) -> None:
        """Read metrics and statistics; if a server does not answer, keep the last ones."""
        try:
            page = fetch(self._url)
        except OSError as exc:
            self._note = f"{self._url} returned no metrics: {exc}; set --metrics-url"
        else:
            self._readings.append(Reading(time_s, parse_values(page)))
            self._failures_after = parse_failures(page)
        with contextlib.suppress(ResnetClientError):
            self._latest = self._client.statistics()

    def end_stage(self) -> None:
        """Read the statistics between two stages; if the server does not answer, repeat the last ones."""
        with contextlib.suppress(ResnetClientError):
            self._latest = self._client.statistics()
        self._stages.append(self._latest)

    def conclude(self, samples: Samples) -> None:
        """Read for the last time, when the server has counted all responses or a timeout has passed.

        Raises:
            ResnetClientError: the server does not answer.
        """
        self._failures_after = self._failures() or self._failures_after
        deadline_s = time.monotonic() + _SETTLE_S
        while True:
            self._latest = self._settled()
            steps = difference(self._stages[0], self._latest)
            if requests_served(steps, self._entries) >= images_answered(samples) or time.monotonic() >= deadline_s:
                return

    @property
    def reading_count(self) -> int:
        """How often the metrics were read."""
        return len(self._readings)

    def server_side(self, *, first_reading: int = 0) -> ServerSide:
        """What the server has reported so far, with the readings from that number on."""
        return ServerSide(
            name=self._name,
            steps=difference(self._stages[0], self._latest),
            stage_steps=tuple(difference(*pair) for pair in itertools.pairwise([*self._stages, self._latest])),
            entries=self._entries,
            ensembles=self._ensembles,
            readings=tuple(self._readings[first_reading:]),
            failures=_increase(self._failures_before, self._failures_after),
            note="" if self._readings else self._note,
        )

    def _settled(self) -> tuple[ModelStatistics, ...]:
        """Read statistics until they no longer change."""
        deadline_s = time.monotonic() + _SETTLE_S
        last = self._client.statistics()
        while time.monotonic() < deadline_s:
            time.sleep(_POLL_S)
            now = self._client.statistics()
            if now == last:
                return now
            last = now
        return last

    def _failures(self) -> dict[str, dict[str, int]]:
        try:
            return parse_failures(fetch(self._url))
        except OSError:
            return {}

    def _is_ensemble(self, model: str) -> bool:
        return bool(self._client.metadata(model=model)["model"]["platform"] == "ensemble")

    def _server_name(self) -> str:
        server = self._client.metadata()["server"]
        return f"{server['name']} {server['version']}"


def _increase(
    before: Mapping[str, Mapping[str, int]], after: Mapping[str, Mapping[str, int]]
) -> dict[str, dict[str, int]]:
    """Model → reason → failed requests between two readings."""
    return {
        model: dict(collections.Counter(dict(sorted(reasons.items()))) - collections.Counter(before.get(model, {})))
        for model, reasons in sorted(after.items())
    }


def parse_values(text: str) -> dict[str, float]:
    """Processor, memory and GPU metrics in the endpoint's text; lines that cannot be read are left out."""
    found: dict[str, float] = {}
    gpus: dict[str, str] = {}
    for name, labels, value in _lines(text):
        if name in _NAMES:
            uuid = labels.get("gpu_uuid")
            suffix = gpus.setdefault(uuid, f" {len(gpus)}") if uuid else ""
            found[name + suffix] = value
    return found


def parse_failures(text: str) -> dict[str, dict[str, int]]:
    """Failed requests: model → reason → count; reasons are REJECTED, CANCELED, BACKEND and OTHER."""
    counts: dict[str, dict[str, int]] = {}
    for name, labels, value in _lines(text):
        if name == "nv_inference_request_failure":
            reasons = counts.setdefault(labels.get("model", ""), collections.Counter())
            reasons[labels.get("reason", "")] += int(value)
    return counts


def _lines(text: str) -> Iterator[tuple[str, dict[str, str], float]]:
    """Name, labels and value of each of Triton's metrics that has a finite value."""
    for line in text.split("\n"):
        if match := _LINE.match(line):
            with contextlib.suppress(ValueError):
                value = float(match["value"])
                if math.isfinite(value):
                    labels = _LABEL.findall(match["labels"] or "")
                    yield match["name"], {name: _unescaped(label) for name, label in labels}, value


def _unescaped(label: str) -> str:
    return re.sub(r"\\(.)", lambda pair: "\n" if pair[1] == "n" else pair[1], label)
