"""The checks: pure functions of a snapshot, in the order of reports.

The parameters of a check are attributes of the :class:`~resnet_client.doctor.snapshot.Snapshot`, by name.
"""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import re
import textwrap
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Literal, TypeAlias

from resnet_client.doctor.snapshot import Json, Probe, Snapshot, steps, tensor
from resnet_client.endpoints import Endpoint
from resnet_client.errors import ResnetClientError
from resnet_client.requests import PROBABILITIES
from resnet_client.results import Classification

Kind: TypeAlias = Literal["error", "performance", "security"]
Configs: TypeAlias = Mapping[str, Json]
Problems: TypeAlias = Iterator[tuple[str, str]]
"""Pairs of a subject (a model or a URL) and its problem."""

_MAX_PROBLEM_LENGTH = 400  # a server's message may be a stack trace
_NETWORK_BACKENDS = ("onnxruntime", "pytorch", "openvino", "tensorrt")
_EMBEDDED_RUNTIME = "model.py"  # the Python backends of resnet-serve, which keep a session for each batch size


@dataclasses.dataclass(frozen=True)
class Check:
    """One check.

    Attributes:
        name: in reports and for ``--ignore``.
        kind: requests fail or results are wrong (``error``), the server could be faster (``performance``), or it
            is open to unauthenticated clients (``security``).
        find: finds the problems.
        fix: what to do.
    """

    name: str
    kind: Kind
    find: Callable[..., Problems]
    fix: str


@dataclasses.dataclass(frozen=True)
class Finding:
    """One fault.

    Attributes:
        check: name of the check.
        kind: ``error``, ``performance`` or ``security``.
        subject: the model, or the URL.
        problem: what the check found.
        fix: what to do.
    """

    check: str
    kind: Kind
    subject: str
    problem: str
    fix: str


@dataclasses.dataclass(frozen=True)
class Report:
    """Result of all checks.

    Attributes:
        findings: in the order of the checks.
        passed: checks that found nothing.
        not_checked: check → why it did not run.
    """

    findings: tuple[Finding, ...]
    passed: tuple[str, ...]
    not_checked: Mapping[str, str]


CHECKS: list[Check] = []
"""In the order of reports."""


def examine(snapshot: Snapshot, *, ignored: Collection[str] = ()) -> Report:
    """Run all checks. A check whose data could not be read is listed with the reason; that is not a finding.

    Args:
        snapshot: of the server.
        ignored: names of checks to skip.
    """
    findings: list[Finding] = []
    passed: list[str] = []
    not_checked: dict[str, str] = {}
    for check in CHECKS:
        needed = {attribute: getattr(snapshot, attribute) for attribute in inspect.signature(check.find).parameters}
        missing = [attribute for attribute, value in needed.items() if value is None]
        if check.name in ignored:
            not_checked[check.name] = "ignored (--ignore)"
        elif missing:
            not_checked[check.name] = snapshot.unread[missing[0]]
        elif found := list(check.find(**needed)):
            for subject, problem in found:
                shown = textwrap.shorten(problem, _MAX_PROBLEM_LENGTH, placeholder=" …")
                findings.append(Finding(check.name, check.kind, subject, shown, check.fix))
        else:
            passed.append(check.name)
    return Report(tuple(findings), tuple(passed), not_checked)


def _check(kind: Kind, fix: str) -> Callable[[Callable[..., Problems]], Callable[..., Problems]]:
    """Add a function to the checks, under its name."""

    def add(find: Callable[..., Problems]) -> Callable[..., Problems]:
        CHECKS.append(Check(find.__name__.replace("_", "-"), kind, find, fix))
        return find

    return add


@_check("error", "read the server's log, then restart the server, or unload and load the model")
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


@_check("error", "read the server's log, then fix the version or remove it from the repository")
def version_not_loaded(index: Collection[Json], *, is_ready: bool) -> Problems:
    """A version in the repository failed to load."""
    for entry in index:
        reason = entry.get("reason", "")
        if entry.get("state") == "UNAVAILABLE" and reason not in ("", "unloaded"):
            yield entry["name"], f"version {entry.get('version') or '(none)'} failed to load: {reason}"
        elif not is_ready and not entry.get("state"):  # Triton keeps no reason for invalid configs and failed steps
            yield entry["name"], "it is not loaded; the server's log has the reason"


@_check(
    "error", "set label_filename in config.pbtxt to a file with one line for each class (resnet-build --labels FILE)"
)
def labels(probes: Mapping[str, Probe], configs: Configs) -> Problems:
    """Classes have no label."""
    for name in configs:
        result = probes[name].result if name in probes else None
        if isinstance(result, Classification):
            missing = sum(prediction.label == str(prediction.index) for prediction in result.predictions)
            if missing:
                yield name, f"{missing} of {len(result.predictions)} classes have no label"


@_check("error", "build all models of the repository together with resnet-build")
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


@_check("error", "open the metrics port, or set --metrics-url (none skips the check)")
def no_metrics(metrics_url: str, unread: Mapping[str, str]) -> Problems:
    """The metrics cannot be read."""
    if "metrics" in unread:
        yield metrics_url, f"the metrics cannot be read: {unread['metrics']}"


@_check("error", "use the server's token: RESNET_ADMIN_TOKEN, or the file of resnet-serve --admin-token-file")
def token_refused(endpoint: Endpoint, *, is_token_refused: bool) -> Problems:
    """The server refuses the admin token."""
    if is_token_refused:
        yield str(endpoint), "the server refuses the admin token"


@_check(
    "performance", "set max_batch_size and dynamic_batching in config.pbtxt, or build the repository with resnet-build"
)
def no_dynamic_batching(configs: Configs) -> Problems:
    """Dynamic batching is off."""
    for name, config in _models(configs):
        if int(config.get("max_batch_size", 0)) <= 1:
            yield name, f"max_batch_size is {config.get('max_batch_size', 0)}"
        elif config.get("backend") in _NETWORK_BACKENDS and "dynamic_batching" not in config:
            yield name, "its config has no dynamic_batching"


@_check("performance", "build the repository with resnet-build, which sets the parameter max_queue_size only")
def queue_limit(configs: Configs) -> Problems:
    """The queue has no limit, or a queue policy in addition to the parameter ``max_queue_size``."""
    limits_queue = any(_parameter(config, "max_queue_size") for config in configs.values())
    for name, config in _models(configs):
        policy = config.get("dynamic_batching", {}).get("default_queue_policy")
        if limits_queue and policy is not None:
            yield name, "it has a default_queue_policy in addition to the parameter max_queue_size"
        elif not limits_queue and not int((policy or {}).get("max_queue_size", 0)):
            yield name, "its queue has no limit: default_queue_policy and the parameter max_queue_size are missing"


@_check("performance", "add model_warmup to config.pbtxt, or build the repository with resnet-build")
def no_warmup(configs: Configs) -> Problems:
    """A network is not warmed up."""
    for name, config in _models(configs):
        if config.get("backend") in _NETWORK_BACKENDS and not config.get("model_warmup"):
            yield name, "its config has no model_warmup"


@_check(
    "performance",
    "set KIND_GPU or KIND_AUTO in instance_group; NVIDIA's image supports GPUs from compute capability 7.5 on",
)
def gpu_idle(model: str, configs: Configs, metrics: str) -> Problems:
    """The default model runs on the CPU of a machine with a GPU."""
    if re.search(r"^nv_gpu_utilization\b", metrics, re.MULTILINE):
        for name, config in _networks_of(model, configs):
            if not _is_on_gpu(config):
                yield name, "the server has a GPU, but this model runs on the CPU"


@_check(
    "performance", "serve with --model-config-name=gpu; for TensorRT, build with resnet-build --gpu-engine tensorrt"
)
def cuda_provider(model: str, configs: Configs) -> Problems:
    """The default model runs in the ONNX Runtime backend on a GPU, with dynamic batching and without TensorRT."""
    for name, config in _networks_of(model, configs):
        is_native = config.get("backend") == "onnxruntime" and config.get("runtime") != _EMBEDDED_RUNTIME
        accelerators = config.get("optimization", {}).get("execution_accelerators", {})
        names = [entry.get("name") for entry in accelerators.get("gpu_execution_accelerator", [])]
        if is_native and _is_on_gpu(config) and "dynamic_batching" in config and "tensorrt" not in names:
            yield name, "ONNX Runtime's CUDA provider runs with dynamic batching"


@_check("security", "use resnet-serve, or Triton's --http-restricted-api and --grpc-restricted-protocol")
def open_admin_api(endpoint: Endpoint, *, is_admin_open: bool) -> Problems:
    """Model control answers an unauthenticated client."""
    if is_admin_open:
        yield str(endpoint), "the model-repository API answers without the admin token"


@_check("security", "use grpcs://, or https:// through a proxy with TLS; in a private network, use --ignore plaintext")
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
