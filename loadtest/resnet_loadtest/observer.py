"""Reads the server's statistics and metrics before, during and after a run, through the client."""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from resnet_client import ResnetClientError

from resnet_loadtest import server_metrics
from resnet_loadtest.errors import LoadTestError
from resnet_loadtest.server_metrics import Reading
from resnet_loadtest.server_statistics import Step, difference, images_answered, requests_served

if TYPE_CHECKING:
    from resnet_client import Client, ModelStatistics

    from resnet_loadtest.samples import Samples

_POLL_S = 0.02
# Statistics lag the last response by milliseconds; those of a busy server by more.
_SETTLE_S = 5.0


@dataclasses.dataclass(frozen=True, eq=False)
class ServerSide:
    """What the server reports about a run.

    Attributes:
        name: its name and version.
        steps: model → what it did.
        stage_steps: the same for each stage; those of the last stage end with the last response.
        entries: the models that clients called → the ensemble each is a step of; empty for none.
        ensembles: models that only pass requests on to others.
        readings: its metrics over time.
        failures: model → reason → failed requests.
        note: why something is missing; empty if nothing is.
    """

    name: str
    steps: Mapping[str, Step]
    stage_steps: tuple[Mapping[str, Step], ...]
    entries: Mapping[str, str]
    ensembles: frozenset[str]
    readings: tuple[Reading, ...]
    failures: Mapping[str, Mapping[str, int]]
    note: str = ""


class Observer:
    """The server's side of one run."""

    def __init__(self, client: Client, metrics_url: str, entries: dict[str, str]) -> None:
        """Read for the first time.

        Args:
            client: connected to the server.
            metrics_url: its metrics endpoint.
            entries: the models that will be called → the ensemble each is a step of; empty for none.
        """
        self._client = client
        self._url = metrics_url
        self._entries = entries
        self._readings: list[Reading] = []
        self._note = ""
        self._failures_before = self._failures()
        self._statistics = [self._settled()]

    def read_metrics(self, time_s: float) -> None:
        """Read the metrics; a busy server may miss a reading, and a missing endpoint is only noted."""
        try:
            values = server_metrics.parse_values(server_metrics.fetch(self._url))
        except OSError as exc:
            self._note = f"no metrics from {self._url}: {exc}"
        else:
            self._readings.append(Reading(time_s, values))

    def end_stage(self) -> None:
        """Read the statistics between two stages, with requests in flight; a server that is down did nothing."""
        try:
            self._statistics.append(self._client.statistics())
        except ResnetClientError:
            self._statistics.append(self._statistics[-1])

    def conclude(self, samples: Samples) -> ServerSide:
        """Read for the last time, when the server has counted all responses or enough time has passed."""
        deadline_s = time.monotonic() + _SETTLE_S
        expected = images_answered(samples)
        before = self._statistics[0]
        steps = difference(before, self._client.statistics())
        while requests_served(steps, self._entries) < expected and time.monotonic() < deadline_s:
            time.sleep(_POLL_S)
            steps = difference(before, self._client.statistics())
        settled = self._settled()
        steps = difference(before, settled)
        return ServerSide(
            name=self._server_name(),
            steps=steps,
            stage_steps=tuple(difference(*pair) for pair in itertools.pairwise([*self._statistics, settled])),
            entries=self._entries,
            ensembles=frozenset(model for model in steps if self._is_ensemble(model)),
            readings=tuple(self._readings),
            failures=_increase(self._failures_before, self._failures()),
            note="" if self._readings else self._note,
        )

    def _settled(self) -> tuple[ModelStatistics, ...]:
        """Statistics that no longer change."""
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
            return server_metrics.parse_failures(server_metrics.fetch(self._url))
        except OSError:
            return {}

    def _is_ensemble(self, model: str) -> bool:
        return bool(self._client.metadata(model=model)["model"]["platform"] == "ensemble")

    def _server_name(self) -> str:
        server = self._client.metadata()["server"]
        return f"{server['name']} {server['version']}"


def entries_of(called: set[str], model: str) -> dict[str, str]:
    """The models that were called → the ensemble whose step they are, if that is called, too.

    Args:
        called: all models that requests name.
        model: the client's own; requests with pixels name the network behind it.
    """
    if not called:
        raise LoadTestError("no request of the warm-up was answered")
    return {name: model if name != model and model in called else "" for name in called}


def _increase(before: dict[str, dict[str, int]], after: dict[str, dict[str, int]]) -> dict[str, dict[str, int]]:
    grown = {
        model: {reason: count - before.get(model, {}).get(reason, 0) for reason, count in sorted(reasons.items())}
        for model, reasons in sorted(after.items())
    }
    return {model: {reason: n for reason, n in reasons.items() if n > 0} for model, reasons in grown.items()}
