"""Names of Triton's model configs, shared by build, server and load test."""

from __future__ import annotations

import glob
from pathlib import Path

TUNED, LOCAL, GPU = "tuned", "local", "gpu"
"""The named configs, ``<model>/configs/<name>.pbtxt``; Triton uses them with ``--model-config-name=<name>``.

``config.pbtxt`` is the same in every repository. ``resnet-build`` writes ``local`` where the weights or its options
need another config, and ``gpu`` for GPU hosts; ``resnet-loadtest tune`` writes ``tuned``. Triton takes one name for all
models, so each model with a ``local`` config also has a ``gpu`` one and, once tuned, a ``tuned`` one.
"""

BY_DEFAULT = (TUNED, LOCAL)
"""The config that ``resnet-serve`` uses by default: the first of these that a model of the repository has."""

MADE_BY_BUILD = "# Rendered by resnet-build"
"""The beginning of each ``config.pbtxt`` from ``resnet-build``; other models are not changed."""

THREADS = {
    "onnxruntime": "intra_op_thread_count",
    "openvino": "INFERENCE_NUM_THREADS",
    "pytorch": "INTRA_OP_THREAD_COUNT",
}
"""Backend → its parameter for the number of CPU threads of an instance."""


def named_config(repository: Path, model: str, name: str) -> Path:
    """Where Triton looks for a model's named config."""
    return repository / model / "configs" / f"{name}.pbtxt"


def models_with(repository: Path, name: str) -> list[str]:
    """Return the models that have a config of this name, sorted."""
    pattern = named_config(Path(), "*", glob.escape(name))
    return sorted(path.parent.parent.name for path in repository.glob(str(pattern)))


def default_name(repository: Path) -> str:
    """Return the first of :data:`BY_DEFAULT` that a model has; empty if all models use ``config.pbtxt``."""
    return next((name for name in BY_DEFAULT if models_with(repository, name)), "")


def config_file(repository: Path, model: str, name: str) -> Path:
    """Return the file that Triton reads with ``--model-config-name=<name>``."""
    named = named_config(repository, model, name)
    return named if name and named.exists() else repository / model / "config.pbtxt"


def config_files(repository: Path, name: str) -> dict[str, Path]:
    """Return each model's :func:`config_file`, by model."""
    models = sorted(path.parent.name for path in repository.glob("[!.]*/config.pbtxt"))
    return {model: config_file(repository, model, name) for model in models}
