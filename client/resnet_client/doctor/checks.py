"""The checks: pure functions of a snapshot.

The parameters of a check are attributes of the :class:`~resnet_client.doctor.snapshot.Snapshot`, by name.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterator, Mapping
from typing import TypeAlias

from resnet_client.doctor.snapshot import Json, Probe, steps, tensor
from resnet_client.endpoints import Endpoint
from resnet_client.errors import ResnetClientError
from resnet_client.requests import PROBABILITIES
from resnet_client.results import Classification, ModelStatistics

Configs: TypeAlias = Mapping[str, Json]
Statistics: TypeAlias = Collection[ModelStatistics]
Problems: TypeAlias = Iterator[tuple[str, str]]
"""Pairs of a subject (a model or a URL) and its problem."""

OLDEST_VERSION = (2, 51)
"""The oldest Triton that the client is tested with."""
MIN_REQUESTS = 200
"""Fewest requests or batches for checks of statistics."""

_MAX_FAILED_SHARE = 0.05
_MAX_SINGLE_SHARE = 0.99
_NETWORK_BACKENDS = ("onnxruntime", "pytorch", "openvino", "tensorrt")
_EMBEDDED_RUNTIME = "model.py"  # the Python backends of resnet-serve, which keep a session for each batch size


def not_ready(endpoint: Endpoint, model: str, probes: Mapping[str, Probe], *, is_ready: bool) -> Problems:
    """The default model or another one is not ready, or a test image fails.

    Triton reports that the server is not ready when any model has failed to load; that is left to version_not_loaded.
    """
    default = probes.get(model)
    if not is_ready and not (default and default.is_ready and isinstance(default.result, Classification)):
        yield str(endpoint), "the server reports that it is not ready"
    for name, probe in probes.items():
        if not probe.is_ready:
            yield name, "the model is not served, or reports that it is not ready"
        elif isinstance(probe.result, ResnetClientError):
            yield name, f"the model reports that it is ready, but a test image fails: {probe.result}"


def old_version(endpoint: Endpoint, version: str) -> Problems:
    """Triton is older than the oldest tested version."""
    if tuple(int(number) for number in re.findall(r"\d+", version)[:2]) < OLDEST_VERSION:
        yield (
            str(endpoint),
            f"Triton {version} is older than {'.'.join(map(str, OLDEST_VERSION))}, the oldest tested version",
        )


def version_not_loaded(index: Collection[Json], *, is_ready: bool) -> Problems:
    """A version in the repository failed to load."""
    for entry in index:
        reason = entry.get("reason", "")
        if entry.get("state") == "UNAVAILABLE" and reason not in ("", "unloaded"):
            yield entry["name"], f"version {entry.get('version') or '(none)'} failed to load: {reason}"
        elif not is_ready and not entry.get("state"):  # Triton keeps no reason for invalid configs and failed steps
            yield entry["name"], "it is not loaded; the server's log has the reason"


def labels(probes: Mapping[str, Probe], configs: Configs) -> Problems:
    """Classes have no label."""
    for name in configs:
        result = probes[name].result if name in probes else None
        if isinstance(result, Classification):
            missing = sum(prediction.label == str(prediction.index) for prediction in result.predictions)
            if missing:
                yield name, f"{missing} of {len(result.predictions)} classes have no label"


def preprocessing_config(configs: Configs) -> Problems:
    """The preprocessing config is missing, was edited, or differs between an ensemble and its steps."""
    called = {step for config in configs.values() for step in steps(config)}
    for name, config in configs.items():
        text = _parameter(config, "preprocessing")
        if name in called or tensor(config, PROBABILITIES) is not None:
            if not text:
                yield name, "it has no preprocessing config"
            elif hashlib.sha256(text.encode()).hexdigest() != _parameter(config, "preprocessing_sha256"):
                yield name, "its preprocessing config does not match its hash"
        for step in steps(config):
            other = _parameter(configs.get(step, {}), "preprocessing")
            if text and other and text != other:
                yield name, f"its preprocessing config is {text}, that of {step} is {other}"


def many_failures(statistics: Statistics, configs: Configs) -> Problems:
    """Many requests to a model have failed; ensembles are left out, because Triton counts their failures twice."""
    models = dict(_models(configs))
    for entry in statistics:
        requests = entry.success_count + entry.failure_count
        if entry.model in models and requests >= MIN_REQUESTS and entry.failure_count > _MAX_FAILED_SHARE * requests:
            failed = f"{entry.failure_count / requests:.0%} of {requests} requests failed"
            yield entry.model, f"{failed} since version {entry.model_version} was loaded"


def no_metrics(metrics_url: str, metrics_error: str) -> Problems:
    """The metrics cannot be read."""
    if metrics_error:
        yield metrics_url, f"the metrics cannot be read: {metrics_error}"


def token_refused(endpoint: Endpoint, *, is_token_refused: bool) -> Problems:
    """The server refuses the admin token."""
    if is_token_refused:
        yield str(endpoint), "the server refuses the admin token"


def no_dynamic_batching(configs: Configs) -> Problems:
    """Dynamic batching is off."""
    for name, config in _models(configs):
        if int(config.get("max_batch_size", 0)) <= 1:
            yield name, f"max_batch_size is {config.get('max_batch_size', 0)}"
        elif "dynamic_batching" not in config:
            yield name, "its config has no dynamic_batching"


def never_batched(statistics: Statistics, configs: Configs) -> Problems:
    """Requests wait and are computed one by one, although the config allows larger batches."""
    models = dict(_models(configs))
    for entry in statistics:
        batching = models.get(entry.model, {}).get("dynamic_batching")
        # resnet-build configures preprocess for single requests: preferred_batch_size 1
        if batching is None or batching.get("preferred_batch_size") == [1]:
            continue
        batches, single = sum(entry.batch_sizes.values()), entry.batch_sizes.get(1, 0)
        waits = entry.queue_ns > entry.compute_infer_ns
        if batches >= MIN_REQUESTS and single > _MAX_SINGLE_SHARE * batches and waits:
            yield entry.model, f"{single} of {batches} batches had one image while other requests waited"


def queue_limit(configs: Configs) -> Problems:
    """The queue has no limit, or a queue policy in addition to the parameter ``max_queue_size``."""
    limits_queue = any(_parameter(config, "max_queue_size") for config in configs.values())
    for name, config in _models(configs):
        policy = config.get("dynamic_batching", {}).get("default_queue_policy")
        if limits_queue and policy is not None:
            yield name, "it has a default_queue_policy in addition to the parameter max_queue_size"
        elif not limits_queue and not int((policy or {}).get("max_queue_size", 0)):
            yield name, "its queue has no limit: default_queue_policy and the parameter max_queue_size are missing"


def no_warmup(configs: Configs) -> Problems:
    """A network is not warmed up."""
    for name, config in _models(configs):
        if config.get("backend") in _NETWORK_BACKENDS and not config.get("model_warmup"):
            yield name, "its config has no model_warmup"


def gpu_idle(model: str, configs: Configs, metrics: str) -> Problems:
    """The default model runs on the CPU of a machine with a GPU."""
    if re.search(r"^nv_gpu_utilization\b", metrics, re.MULTILINE):
        for name, config in _networks_of(model, configs):
            if not _is_on_gpu(config):
                yield name, "the server has a GPU, but this model runs on the CPU"


def cuda_provider(model: str, configs: Configs) -> Problems:
    """The default model runs in the ONNX Runtime backend on a GPU, with dynamic batching and without TensorRT."""
    for name, config in _networks_of(model, configs):
        is_native = config.get("backend") == "onnxruntime" and config.get("runtime") != _EMBEDDED_RUNTIME
        accelerators = config.get("optimization", {}).get("execution_accelerators", {})
        names = [entry.get("name") for entry in accelerators.get("gpu_execution_accelerator", [])]
        if is_native and _is_on_gpu(config) and "dynamic_batching" in config and "tensorrt" not in names:
            yield name, "ONNX Runtime's CUDA provider runs with dynamic batching"


def open_admin_api(endpoint: Endpoint, open_apis: Collection[str]) -> Problems:
    """An admin API answers an unauthenticated client."""
    for api in open_apis:
        yield str(endpoint), f"the {api} API answers without the admin token"


def plaintext(endpoint: Endpoint) -> Problems:
    """The connection to another machine is not encrypted."""
    if not (endpoint.is_tls or endpoint.is_loopback):
        yield str(endpoint), f"{endpoint.scheme}:// to another machine is not encrypted"


def _models(configs: Configs) -> Iterator[tuple[str, Json]]:
    """All models except ensembles."""
    return ((name, config) for name, config in configs.items() if not steps(config))


def _networks_of(model: str, configs: Configs) -> Iterator[tuple[str, Json]]:
    """The networks that a model calls, or the model itself."""
    called = [model, *steps(configs.get(model, {}))]
    return ((n, config) for n, config in _models(configs) if n in called and config.get("backend") in _NETWORK_BACKENDS)


def _parameter(config: Json, name: str) -> str:
    return str(config.get("parameters", {}).get(name, {}).get("string_value", ""))


def _is_on_gpu(config: Json) -> bool:
    return any(group.get("kind") == "KIND_GPU" for group in config.get("instance_group", []))
