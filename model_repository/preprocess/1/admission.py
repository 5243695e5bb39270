"""Refuses images when too many are waiting in the server.

Triton has a queue policy for this, but no model of this repository uses it. With a policy, Triton 2.51 forms the next
batch only when a request arrives at an idle instance (`DynamicBatchScheduler::Enqueue` wakes the batcher if
`WaitingConsumerCount` is above 0; so do the sources of June 2026). A request that arrives during a computation then
waits for the next request, or for half a second: under light load, the p99 was three times as high. With a timeout in
the policy, that count drifts until the model gets no batches at all (server#8870, fixed in Triton 26.08). So
`preprocess` counts by itself, in each release.
"""

from __future__ import annotations

import http.client
import logging
import os
import re
import time
import urllib.parse
from collections.abc import Mapping

_URL_VARIABLE = "RESNET_METRICS_URL"
_DEFAULT_URL = "http://127.0.0.1:8002/metrics"
# Prefixes of models. The first is also that of `preprocess_check`, which admits images for DALI.
_ADMITTING, _NETWORKS = "preprocess", "network_"

_REMEDY = "retry later or send fewer images at once"

_TIMEOUT_S = 0.5
# From this share of the limit on, the server counts as crowded. Then the pause between two reads of the metrics is at
# least the shortest, and four times as long as the read, because images wait during a read.
_CROWDED = 0.5
_SHORTEST_S = 0.01
_PAUSE_PER_LOOK = 4
# Older metrics are read again before an image is admitted.
_LONGEST_S = 0.25
# The durations of requests that ended longer ago do not predict the next wait.
_RECENT_S = 1.0
_SMOOTHING = 0.2


class Admission:
    """Decides by Triton's metrics, which it reads again when the free places that they showed are used up.

    Args:
        parameters: of the model config. ``max_queue_size`` is the number of images that may wait in the server, in all
            queues together; images are refused while the last requests took longer than ``max_wait_ms`` in the
            networks. Without them there is no limit.
        instances: number of instances that admit images independently of each other.
    """

    def __init__(self, parameters: Mapping[str, str], instances: int) -> None:
        url = urllib.parse.urlsplit(os.environ.get(_URL_VARIABLE, _DEFAULT_URL))
        self._connection = http.client.HTTPConnection(url.hostname or "", url.port, timeout=_TIMEOUT_S)
        self._path = url.path
        self._limit = float(parameters.get("max_queue_size", "inf"))
        self._longest_wait_s = float(parameters.get("max_wait_ms", "inf")) / 1000
        self._instances = instances
        self._waiting = 0.0
        self._room = 0.0
        self._looked_s = self._next_look_s = float("-inf")
        self._done = self._taken_s = 0.0
        self._wait_s = 0.0
        self._images_per_request = 1.0
        self._is_blind = False

    def refusal(self, images: int, allowed_s: float = 0.0) -> str | None:
        """Admit a request and return None, or return why it is refused.

        Args:
            images: number of images in the request.
            allowed_s: timeout of the request in seconds; 0 for none.
        """
        self._images_per_request += _SMOOTHING * (images - self._images_per_request)
        now_s = time.monotonic()
        if now_s >= self._next_look_s and (self._room < images or now_s - self._looked_s > _LONGEST_S):
            self._look()
            self._looked_s = time.monotonic()
            self._next_look_s = self._looked_s + self._pause_s(self._looked_s - now_s)
        # An empty server admits every request, also one with more images than the limit.
        if self._room < images and self._waiting >= 1:
            return f"{self._waiting:.0f} images are waiting already; {_REMEDY}"
        bound_s = min(allowed_s or self._longest_wait_s, self._longest_wait_s)
        if self._wait_s > bound_s:
            limit = "this request's timeout" if bound_s == allowed_s else "max_wait_ms"
            return f"recent requests took {self._wait_s:.1f} s, longer than {limit} ({bound_s:.1f} s); {_REMEDY}"
        self._room -= images
        self._waiting += images
        return None

    def _pause_s(self, took_s: float) -> float:
        """Return the pause before the next read of the metrics, after one that took ``took_s``."""
        if took_s >= _LONGEST_S:  # otherwise slow metrics would delay every image
            return _PAUSE_PER_LOOK * took_s
        # Without a pause unless it is crowded: each of many instances uses up its share soon, although few images wait.
        is_crowded = self._waiting >= _CROWDED * self._limit
        return min(max(_SHORTEST_S, _PAUSE_PER_LOOK * took_s), _LONGEST_S) if is_crowded else 0.0

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _look(self) -> None:
        try:
            page = self._read()
        except (OSError, http.client.HTTPException, ValueError) as exc:
            self._connection.close()
            if not self._is_blind:
                logging.getLogger(__name__).warning(
                    "the metrics of %s cannot be read (%s), so overload protection is off; set RESNET_METRICS_URL",
                    self._connection.host,
                    exc,
                )
            self._is_blind = True
            self._waiting, self._room, self._wait_s = 0.0, float("inf"), 0.0
            return
        self._is_blind = False
        requests = _total(page, "pending_request_count", f"{_ADMITTING}|{_NETWORKS}")
        self._waiting = requests * self._images_per_request
        self._room = (self._limit - self._waiting) / self._instances
        done = _total(page, "request_success", _NETWORKS)
        taken_s = _total(page, "request_duration_us", _NETWORKS) / 1e6
        is_recent = time.monotonic() - self._looked_s < _RECENT_S
        if done > self._done and is_recent:
            self._wait_s = (taken_s - self._taken_s) / (done - self._done)
        elif not (requests and is_recent):
            self._wait_s = 0.0
        self._done, self._taken_s = done, taken_s

    def _read(self) -> str:
        self._connection.request("GET", self._path)
        response = self._connection.getresponse()
        page = response.read().decode()
        if response.status != http.client.OK:
            raise ValueError(f"status {response.status}")
        return page


def _total(page: str, metric: str, prefixes: str) -> float:
    """Return the sum of a metric over all models with one of these prefixes.

    Labels are sorted by name, so the GPU's (``gpu_uuid``) and a model's own tags (``_name``) come before ``model``.
    """
    lines = rf'^nv_inference_{metric}{{(?:.*,)?model="(?:{prefixes}).*}} (\S+)$'
    return sum(map(float, re.findall(lines, page, re.MULTILINE)))
