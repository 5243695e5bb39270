"""Triton's answers as plain data; gRPC writes 64-bit integers as strings and leaves zeros out, HTTP does not."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from resnet_client._doctor._snapshot import Answered, Batching, Metrics, Model, Tensor, Unloaded
from resnet_client.responses import parameters_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from resnet_client.responses import Answer

_METRIC = re.compile(r"^(nv_\w+)(?:\{(.*)\})? ", re.MULTILINE)
# Some metrics of a model outlive it; this one goes with it.
_SERVED = "nv_inference_request_success"
_BEFORE_LABEL = 2  # probability:index:label


def read_model(config: Mapping[str, Any], versions: Iterable[str]) -> Model:
    """One model's configuration."""
    steps = config.get("ensemble_scheduling", {}).get("step", [])
    return Model(
        name=config["name"],
        versions=tuple(sorted(int(version) for version in versions)),
        backend="ensemble" if steps else config.get("backend", ""),
        max_batch_size=int(config.get("max_batch_size", 0)),
        batching=_batching(config["dynamic_batching"]) if "dynamic_batching" in config else None,
        cpu_instances=_instances(config, "KIND_CPU"),
        gpu_instances=_instances(config, "KIND_GPU"),
        parameters=parameters_of(config),
        warmed=tuple(sorted(int(sample.get("batch_size", 0)) for sample in config.get("model_warmup", []))),
        caches=bool(config.get("response_cache", {}).get("enable", False)),
        inputs=tuple(_tensor(tensor) for tensor in config.get("input", [])),
        outputs=tuple(_tensor(tensor) for tensor in config.get("output", [])),
        steps={step["model_name"]: int(step.get("model_version", -1)) for step in steps},
    )


def read_unloaded(index: Any) -> tuple[Unloaded, ...]:
    """Versions that the server could not load; those that nobody asked for have no reason, or say so."""
    entries = index.get("models", []) if isinstance(index, dict) else index or []
    return tuple(
        Unloaded(entry["name"], str(entry.get("version", "")), entry["reason"])
        for entry in entries
        if entry.get("state") == "UNAVAILABLE" and entry.get("reason", "unloaded") not in ("", "unloaded")
    )


def read_served(index: Any) -> set[str]:
    """Models of the repository that are loaded."""
    entries = index.get("models", []) if isinstance(index, dict) else index or []
    return {entry["name"] for entry in entries if entry.get("state") == "READY"}


def read_metrics(page: str) -> Metrics:
    """Prometheus' text format."""
    lines = _METRIC.findall(page)
    models = {match[1] for name, labels in lines if name == _SERVED and (match := re.search(r'model="(.*?)"', labels))}
    return Metrics(frozenset(name for name, _ in lines), frozenset(models))


def read_answer(answer: Answer) -> Answered:
    """Triton's ``probability:index:label`` strings, one row for each photo."""
    if answer.output is None or answer.output.size == 0:
        return Answered(tops=())
    rows = [[entry.decode().split(":", _BEFORE_LABEL) for entry in row] for row in answer.output]
    unlabelled = sum(1 for fields in rows[0] if len(fields) <= _BEFORE_LABEL or not fields[_BEFORE_LABEL])
    return Answered(tuple(int(row[0][1]) for row in rows), unlabelled)


def _batching(config: Mapping[str, Any]) -> Batching:
    queue = config.get("default_queue_policy", {})
    return Batching(
        max_delay_us=int(config.get("max_queue_delay_microseconds", 0)),
        preferred=tuple(int(size) for size in config.get("preferred_batch_size", [])),
        preserves_order=bool(config.get("preserve_ordering", False)),
        queue_size=int(queue.get("max_queue_size", 0)),
        queue_timeout_us=int(queue.get("default_timeout_microseconds", 0)),
        delays=queue.get("timeout_action", "REJECT") == "DELAY",
        honours_timeout=bool(queue.get("allow_timeout_override", False)),
    )


def _instances(config: Mapping[str, Any], kind: str) -> int:
    groups = config.get("instance_group", [])
    # A group of GPUs has its count on each of them.
    return sum(int(g.get("count", 1)) * max(1, len(g.get("gpus", []))) for g in groups if g.get("kind") == kind)


def _tensor(config: Mapping[str, Any]) -> Tensor:
    dims = tuple(int(size) for size in config.get("dims", []))
    return Tensor(config["name"], config.get("data_type", ""), dims, config.get("label_filename", ""))
