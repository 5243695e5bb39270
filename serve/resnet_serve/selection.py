"""Which models of a repository can be served here, and with which of their configs.

A CPU image need not hold torch to serve ONNX.
"""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

from resnet_client.model_configs import config_files, default_name

from resnet_serve.config import ServerConfig
from resnet_serve.errors import UnservableError

# Backend → the package that it imports; DALI's is no package, and is in NVIDIA's image only.
_PACKAGES = {
    "onnxruntime": "onnxruntime",
    "openvino": "openvino",
    "pytorch": "torch",
    "dali": "DALI's backend",
}
_BACKEND = re.compile(r'^backend: "(\w+)"', re.MULTILINE)
_STEP = re.compile(r'^\s+model_name: "([^"]+)"', re.MULTILINE)


def check(repository: Path) -> None:
    """Refuse a repository that cannot be served, before seconds are spent on starting.

    Raises:
        UnservableError: the message names the folder and the remedy.
    """
    if not repository.is_dir():
        raise UnservableError(
            f"there is no model repository {repository}: run resnet-build, or name one with --repository"
        )
    configs = sorted(repository.glob("*/config.pbtxt"))
    if not configs:
        raise UnservableError(f"{repository} holds no model: run resnet-build --repository {repository}")
    for config in configs:
        if not any(path.is_dir() and path.name.isdigit() for path in config.parent.iterdir()):
            raise UnservableError(
                f"the model {config.parent} has no version, so its artifact is missing: run resnet-build"
            )


def without_package(config: ServerConfig) -> dict[str, str]:
    """Return the models that need a package which is not installed, ensembles around them included.

    Returns:
        Model name → name of the package, sorted by models.
    """
    files = config_files(Path(config.repository), model_config_name(config))
    configs = {model: path.read_text(encoding="utf-8") for model, path in files.items()}
    missing = {}
    for name, text in configs.items():
        found = _BACKEND.search(text)
        package = _PACKAGES.get(found[1]) if found else None
        if package is not None and importlib.util.find_spec(package) is None:
            missing[name] = package
    for name, text in configs.items():
        for step in _STEP.findall(text):
            if step in missing:
                missing[name] = missing[step]
    return dict(sorted(missing.items()))


def servable(config: ServerConfig) -> tuple[str, ...]:
    """Return what to name to ``--load-model``: ``*``, or the models that can be loaded if some cannot."""
    missing = without_package(config)
    if not missing:
        return ("*",)
    models = config_files(Path(config.repository), "")
    return tuple(model for model in models if model not in missing)


def model_config_name(config: ServerConfig) -> str:
    """Return what to pass as ``--model-config-name``; empty for ``config.pbtxt``."""
    if config.model_config_name is None:
        return default_name(Path(config.repository))
    return config.model_config_name
