"""The named model config that ``tune`` writes: ``<model>/configs/tuned.pbtxt``.

It is the config from ``resnet-build`` with the chosen setting. Triton uses it with ``--model-config-name=tuned``.
Models without this file use their ``config.pbtxt``, so a model that was not tuned gets a copy of its config ``local``
(or ``gpu``), if it has one.
"""

from __future__ import annotations

import datetime
import platform
import shlex
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from google.protobuf import text_format
from resnet_client.named_configs import MADE_BY_BUILD, TUNED, config_file, models_with, named_config
from resnet_client.preprocessing import available_cpus
from tritonclient.grpc import model_config_pb2 as pb

from resnet_loadtest.errors import UsageError


def read_base(repository: Path, model: str, name: str) -> pb.ModelConfig:
    """Read the config on which the tuned one is based.

    Args:
        repository: the model repository.
        model: name of the model.
        name: ``local`` or ``gpu``, the named config to read if the model has it; else its ``config.pbtxt``.

    Raises:
        UsageError: resnet-build did not write the config, or it cannot be read.
    """
    path = config_file(repository, model, name)
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as exc:
        raise UsageError(f"{exc}; set --repository to the model repository that the server serves") from exc
    if not text.startswith(MADE_BY_BUILD):
        raise UsageError(f"{model} cannot be tuned: resnet-build did not write {path}")
    try:
        return text_format.Parse(text.encode(), pb.ModelConfig())
    except text_format.ParseError as exc:
        raise UsageError(f"{path} is not a model config: {exc}") from exc


def write(
    repository: Path, configs: Mapping[str, pb.ModelConfig], provenance: Iterable[str], *, base: str
) -> list[Path]:
    """Write the tuned configs of models; return their paths.

    Args:
        repository: the model repository.
        configs: model to its tuned config.
        provenance: lines for a comment.
        base: ``local`` or ``gpu``: other models that have this named config get a copy of it as ``tuned``.
    """
    comment = "".join(f"# {line}\n" for line in provenance)
    texts = {model: comment + text_format.MessageToString(config) for model, config in configs.items()}
    for model in models_with(repository, base):
        if model not in texts and not named_config(repository, model, TUNED).exists():
            copied = named_config(repository, model, base).read_text(encoding="utf-8")
            texts[model] = f"# Copy of {base}.pbtxt: Triton takes one name for all models.\n{copied}"
    paths = [named_config(repository, model, TUNED) for model in texts]
    for path, text in zip(paths, texts.values(), strict=True):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return paths


def provenance(measured: Iterable[str]) -> list[str]:
    """Return the comment lines on the origin of a tuned config, given what was measured: a line for each setting."""
    return [
        f"Written by resnet-loadtest tune. Triton uses it with --model-config-name={TUNED}.",
        f"Date: {datetime.datetime.now().astimezone().date()}",
        f"Command: {shlex.join(['resnet-loadtest', *sys.argv[1:]])}",
        f"Machine: {platform.machine()}, {available_cpus()} cores",
        *measured,
    ]
