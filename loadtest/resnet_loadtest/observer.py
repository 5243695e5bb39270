"""Looks at the server before, during and after a run, through the client like everybody else."""

from __future__ import annotations

import itertools
import time
from typing import TYPE_CHECKING

from resnet_client import ResnetClientError

from resnet_loadtest import server_metrics as metrics
from resnet_loadtest.analysis import ServerSide
from resnet_loadtest.counts import asked_of, photos_answered
from resnet_loadtest.errors import LoadTestError
from resnet_loadtest.server_statistics import difference

if TYPE_CHECKING:
    from resnet_client import Client, ModelStatistics

    from resnet_loadtest.samples import Samples
    from resnet_loadtest.server_metrics import Reading

_POLL_S = 0.02
# Statistics lag the last answer by milliseconds; a busy server by more.
_SETTLE_S = 5.0


class Observer:
    """The server's side of one run."""

    def __init__(self, client: Client, metrics_url: str, entries: dict[str, str]) -> None:
        """Look for the first time.

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
        self._looks = [self._settled()]

    def read_metrics(self, time_s: float) -> None:
        """Look at the metrics; a busy server may miss a look, and a missing endpoint is noted, no error."""
        try:
            values = metrics.gauges(metrics.fetch(self._url))
        except OSError as exc:
            self._note = f"no metrics from {self._url}: {exc}"
        else:
            self._readings.append(metrics.Reading(time_s, values))

    def end_stage(self) -> None:
        """Look between two stages, while requests are under way; a server that is down meanwhile did nothing."""
        try:
            self._looks.append(self._client.statistics())
        except ResnetClientError:
            self._looks.append(self._looks[-1])

    def conclude(self, samples: Samples) -> ServerSide:
        """Look for the last time, when the server has counted all answers or enough time has passed."""
        deadline_s = time.monotonic() + _SETTLE_S
        expected = photos_answered(samples)
        before = self._looks[0]
        steps = difference(before, self._client.statistics())
        while asked_of(steps, self._entries) < expected and time.monotonic() < deadline_s:
            time.sleep(_POLL_S)
            steps = difference(before, self._client.statistics())
        settled = self._settled()
        steps = difference(before, settled)
        after = self._failures()
        return ServerSide(
            name=self._server_name(),
            steps=steps,
            stage_steps=tuple(difference(*pair) for pair in itertools.pairwise([*self._looks, settled])),
            entries=self._entries,
            ensembles=frozenset(model for model in steps if self._is_ensemble(model)),
            readings=tuple(self._readings),
            failures={
                key: count - self._failures_before.get(key, 0)
                for key, count in sorted(after.items())
                if count > self._failures_before.get(key, 0)
            },
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

    def _failures(self) -> dict[tuple[str, str], int]:
        try:
            return metrics.failures(metrics.fetch(self._url))
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
        model: the client's own; pixels go past it to the network behind it.
    """
    if not called:
        raise LoadTestError("no request of the warm-up was answered")
    return {name: model if name != model and model in called else "" for name in called}
