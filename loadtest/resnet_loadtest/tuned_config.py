"""The named model config that ``tune`` writes: ``<model>/configs/tuned.pbtxt``.

Triton uses it with ``--model-config-name=tuned``; models without that file use their ``config.pbtxt``.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import platform
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from google.protobuf import text_format
from resnet_client.model_configs import MADE_BY_BUILD, TUNED, named_config
from tritonclient.grpc import model_config_pb2 as pb

from resnet_loadtest.errors import UsageError


def read_base(repository: Path, model: str) -> pb.ModelConfig:
    """Read a model's ``config.pbtxt``, which the tuned config is a copy of but for the setting.

    Raises:
        UsageError: resnet-build did not write it, so it is left alone; or it cannot be read.
    """
    path = repository / model / "config.pbtxt"
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as exc:
        raise UsageError(f"{exc}; --repository is the model repository that the server serves") from exc
    if not text.startswith(MADE_BY_BUILD):
        raise UsageError(f"{model} cannot be tuned: resnet-build did not write {path}")
    return _parse(path, text)


def read_next(repository: Path, model: str) -> pb.ModelConfig:
    """Read the config that the next ``resnet-serve`` uses."""
    tuned = named_config(repository, model, TUNED)
    path = tuned if tuned.exists() else repository / model / "config.pbtxt"
    return _parse(path, path.read_text(encoding="utf-8"))


def _parse(path: Path, text: str) -> pb.ModelConfig:
    try:
        return text_format.Parse(text.encode(), pb.ModelConfig())
    except text_format.ParseError as exc:
        raise UsageError(f"{path} is not a model config: {exc}") from exc


def write(repository: Path, configs: Mapping[str, pb.ModelConfig], provenance: Iterable[str]) -> list[Path]:
    """Write the tuned configs of models, each file whole or not at all; return their paths."""
    comment = "".join(f"# {line}\n" for line in provenance)
    paths = []
    for model, config in configs.items():
        path = named_config(repository, model, TUNED)
        path.parent.mkdir(exist_ok=True)
        staged = path.with_suffix(".tmp")
        staged.write_text(comment + text_format.MessageToString(config), encoding="utf-8")
        paths.append(staged.replace(path))
    return paths


def provenance(command: Sequence[str], measured: Iterable[str]) -> list[str]:
    """Return the lines that tell where a tuned config comes from.

    Args:
        command: the arguments of resnet-loadtest.
        measured: what was measured, one line for each setting.
    """
    return [
        f"Written by resnet-loadtest tune. Triton uses it with --model-config-name={TUNED}.",
        f"Date: {datetime.datetime.now().astimezone().date()}",
        f"Command: {shlex.join(['resnet-loadtest', *command])}",
        f"Machine: {_processor()}, {len(os.sched_getaffinity(0))} cores",
        *measured,
    ]


def _processor() -> str:
    """The processor's name, as its maker wrote it."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
