"""Triton's metrics endpoint over time: processor, memory, GPU."""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import math
import re
import urllib.request
from collections.abc import Iterator, Mapping

# Prometheus' text format: name{label="value",…} number; in a value \, " and line ends are escaped by a \.
_LINE = re.compile(r'^(?P<name>nv_[a-z_]+)(\{(?P<labels>([^"}]|"([^"\\]|\\.)*")*)\})?\s+(?P<value>\S+)')
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')

_MAX_BYTES = 16 << 20  # Triton's page is some kilobytes for each model

_NAMES = {
    "nv_cpu_utilization",
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


def fetch(url: str, timeout_s: float = 2.0) -> str:
    """The endpoint's text.

    Raises:
        OSError: it cannot be read.
    """
    if not url.startswith(("http://", "https://")):
        raise OSError(f"{url!r} is not an HTTP URL")
    try:
        with urllib.request.urlopen(url, timeout=timeout_s) as response:  # noqa: S310  # the scheme is checked above
            return str(response.read(_MAX_BYTES).decode(errors="replace"))
    except (http.client.HTTPException, ValueError) as exc:  # truncated, not HTTP, or not a URL
        raise OSError(f"{url!r} returned no metrics: {exc}") from exc


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
            reasons = counts.setdefault(labels.get("model", ""), {})
            reason = labels.get("reason", "")
            reasons[reason] = reasons.get(reason, 0) + int(value)
    return counts


def _lines(text: str) -> Iterator[tuple[str, dict[str, str], float]]:
    """Name, labels and value of each of Triton's metrics that has a finite one."""
    for line in text.split("\n"):
        if match := _LINE.match(line):
            with contextlib.suppress(ValueError):
                value = float(match["value"])
                if math.isfinite(value):
                    labels = _LABEL.findall(match["labels"] or "")
                    yield match["name"], {name: _unescaped(label) for name, label in labels}, value


def _unescaped(label: str) -> str:
    return re.sub(r"\\(.)", lambda pair: "\n" if pair[1] == "n" else pair[1], label)
