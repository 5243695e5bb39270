"""Triton's metrics endpoint over time: processor, memory, GPU."""

from __future__ import annotations

import dataclasses
import re
import urllib.request
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

# Prometheus' text format: name{label="value",…} number
_LINE = re.compile(r"^(?P<name>nv_[a-z_]+)(\{(?P<labels>[^}]*)\})?\s+(?P<value>[-+0-9.eE]+)")

GAUGES = {
    "nv_cpu_utilization": "CPU, share of all cores",
    "nv_cpu_memory_used_bytes": "memory used",
    "nv_gpu_utilization": "GPU",
    "nv_gpu_memory_used_bytes": "GPU memory used",
    "nv_gpu_power_usage": "GPU power",
}


@dataclasses.dataclass(frozen=True)
class Reading:
    """One look at the endpoint.

    Attributes:
        time_s: seconds since the run began.
        values: name of the metric, with the GPU's number where there are several → value in Triton's unit
            (shares from 0 to 1, bytes, watts).
    """

    time_s: float
    values: Mapping[str, float]


def fetch(url: str, timeout_s: float = 2.0) -> str:
    """The endpoint's text.

    Raises:
        OSError: it cannot be read.
    """
    if not url.startswith(("http://", "https://")):
        raise OSError(f"{url!r} is no HTTP URL")
    with urllib.request.urlopen(url, timeout=timeout_s) as answer:  # noqa: S310  # the scheme is checked above
        return str(answer.read().decode())


def gauges(text: str) -> dict[str, float]:
    """The metrics of :data:`GAUGES` in the endpoint's text."""
    found: dict[str, float] = {}
    gpus: dict[str, str] = {}
    for line in text.splitlines():
        if (match := _LINE.match(line)) and match["name"] in GAUGES:
            uuid = re.search(r'gpu_uuid="([^"]*)"', match["labels"] or "")
            suffix = gpus.setdefault(uuid[1], f" {len(gpus)}") if uuid else ""
            found[match["name"] + suffix] = float(match["value"])
    return found


def failures(text: str) -> dict[tuple[str, str], int]:
    """Failed requests by (model, reason); reasons are REJECTED, CANCELED, BACKEND and OTHER."""
    counts: dict[tuple[str, str], int] = {}
    for line in text.splitlines():
        match = _LINE.match(line)
        if match and match["name"] == "nv_inference_request_failure":
            labels = dict(re.findall(r'(\w+)="([^"]*)"', match["labels"] or ""))
            key = labels.get("model", ""), labels.get("reason", "")
            counts[key] = counts.get(key, 0) + int(float(match["value"]))
    return counts
