"""The models of a repository: which can be served here, with which configs, and what the server reports of them."""

from __future__ import annotations

import dataclasses
import importlib.util
import re
from collections import Counter
from pathlib import Path
from typing import Any

from resnet_client.config import ClientConfig
from resnet_client.named_configs import config_files, default_name

from resnet_serve import installation
from resnet_serve.config import ALL_MODELS, ServerConfig, ServerError, UnservableError
from resnet_serve.watchdog import Api

# Backend → the package that it imports, which may be missing here; DALI's is in NVIDIA's image only.
_PACKAGES = {"onnxruntime": "onnxruntime", "openvino": "openvino", "pytorch": "torch", "dali": "DALI's backend"}
_BACKEND = re.compile(r'^backend: "(\w+)"', re.MULTILINE)
_STEP = re.compile(r'^\s+model_name: "([^"]+)"', re.MULTILINE)


def check(config: ServerConfig) -> None:
    """Refuse a repository that cannot be served, before the server starts, which takes seconds.

    Raises:
        UnservableError: the message names the folder and the remedy.
    """
    repository = Path(config.repository)
    if not repository.is_dir():
        raise UnservableError(
            f"the model repository {repository} does not exist: run resnet-build, or name another with --repository"
        )
    configs = config_files(repository, "")
    if not configs:
        raise UnservableError(f"{repository} contains no models: run resnet-build --repository {repository}")
    missing = without_package(config)
    for name in requested(config):
        if name not in {*configs, *ALL_MODELS}:
            raise UnservableError(f"{repository} has no model {name!r}; its models: {', '.join(configs)}")
        if name in missing:
            raise UnservableError(
                f"{name} needs {missing[name]}, which is not installed: pip install {missing[name]}, or choose another "
                "model with --models"
            )
    for name, path in configs.items():
        if not installation.is_plain(name) and _BACKEND.search(path.read_text(encoding="utf-8")):
            raise UnservableError(
                f"Triton cannot start the workers of the model {name!r}: rename it to letters, digits and any of . _ -"
            )
        if not any(entry.is_dir() and entry.name.isdigit() for entry in path.parent.iterdir()):
            raise UnservableError(f"the model {path.parent} has no version folder: run resnet-build")


def model_config_name(config: ServerConfig) -> str:
    """Return what to pass as ``--model-config-name``; empty for ``config.pbtxt``."""
    if config.model_config_name is None:
        return default_name(Path(config.repository))
    return config.model_config_name


def without_package(config: ServerConfig) -> dict[str, str]:
    """Return the models that need a package which is not installed, ensembles around them included.

    Returns:
        Model name → name of the package, sorted by models.
    """
    files = config_files(Path(config.repository), model_config_name(config))
    texts = {model: path.read_text(encoding="utf-8") for model, path in files.items()}
    missing = {}
    for name, text in texts.items():
        found = _BACKEND.search(text)
        package = _PACKAGES.get(found[1]) if found else None
        if package is not None and importlib.util.find_spec(package) is None:
            missing[name] = package
    ensembles = {name: step for name, text in texts.items() for step in _STEP.findall(text) if step in missing}
    return dict(sorted((missing | {name: missing[step] for name, step in ensembles.items()}).items()))


def requested(config: ServerConfig) -> tuple[str, ...]:
    """Return the names of the models to load, or :data:`ALL_MODELS`."""
    if config.models is not None:
        return config.models
    default = ClientConfig.model
    return (default,) if default in config_files(Path(config.repository), "") else ALL_MODELS


def loadable(config: ServerConfig) -> tuple[str, ...]:
    """Return the requested models, without those of :data:`ALL_MODELS` that need a missing package."""
    found = requested(config)
    if found != ALL_MODELS or not (missing := without_package(config)):
        return found
    return tuple(model for model in config_files(Path(config.repository), "") if model not in missing)


@dataclasses.dataclass(frozen=True)
class ModelStatus:
    """One served model.

    Attributes:
        name: of the model.
        versions: loaded versions, ascending.
        backend: ``python``, ``onnxruntime``, ``openvino``, ``pytorch``, or ``ensemble``.
        max_batch_size: largest batch; 0 without batching.
        devices: where its instances run, such as ``2 instances on CPU``.
        config: the config, completed by Triton.
    """

    name: str
    versions: tuple[int, ...]
    backend: str
    max_batch_size: int
    devices: str
    config: dict[str, Any] = dataclasses.field(default_factory=dict, repr=False, compare=False)


def served(api: Api) -> list[ModelStatus]:
    """List the served models, ensembles last.

    Raises:
        ServerError: the server does not list them.
    """
    versions: dict[str, list[int]] = {}
    try:
        for entry in api.request("v2/repository/index", {"ready": True}):
            versions.setdefault(entry["name"], []).append(int(entry["version"]))
        found = [_status(api, name, sorted(numbers)) for name, numbers in versions.items()]
    except OSError as exc:
        raise ServerError(f"the server's models cannot be listed: {exc}") from exc
    return sorted(found, key=lambda model: (model.backend == "ensemble", model.name))


def _status(api: Api, name: str, versions: list[int]) -> ModelStatus:
    config = api.request(f"v2/models/{name}/config")
    instances: Counter[str] = Counter()
    for group in config.get("instance_group", []):
        instances[group["kind"].removeprefix("KIND_")] += group["count"]
    return ModelStatus(
        name=name,
        versions=tuple(versions),
        backend=config["backend"] or config["platform"],
        max_batch_size=config["max_batch_size"],
        devices=", ".join(f"{count} instance{'s'[: count - 1]} on {kind}" for kind, count in instances.items()),
        config=config,
    )
