"""Writes what was chosen: every model's ``config.pbtxt``, and where it comes from into ``manifest.json``."""

from __future__ import annotations

import dataclasses
import datetime
import os
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tritonclient.grpc import model_config_pb2 as pb

from resnet_build import configs, manifest
from resnet_build.errors import BuildError
from resnet_build.options import SCHEDULE, ServingOptions
from resnet_build.repository import locked, publication
from resnet_build.schedule import is_network, schedule

# Both decode photos, and are scheduled alike.
_DECODERS = frozenset({configs.PREPROCESS, "preprocess_check"})


def write(repository: Path, chosen: ServingOptions, record: dict[str, Any], report: Callable[[str], None]) -> None:
    """Write a setting into all models of a repository; what else their configurations say stays.

    Args:
        repository: the model repository.
        chosen: the setting.
        record: what was measured, for the manifest; its ``note`` goes into the configurations, too.
        report: receives a sentence if another build is waited for.

    Raises:
        BuildError: a file cannot be read or written; nothing was changed.
    """
    with locked(repository, report), publication(repository) as files:
        for name, config in rescheduled(repository, chosen).items():
            files.write(f"{name}/config.pbtxt", configs.to_text(config, record["note"]))
        content = manifest.read(repository)
        content["serving"] = dataclasses.asdict(chosen)
        content["tuned"] = {"serving": {name: getattr(chosen, name) for name in SCHEDULE}, **record}
        files.write(manifest.FILENAME, manifest.to_json(content))


def rescheduled(repository: Path, chosen: ServingOptions) -> dict[str, pb.ModelConfig]:
    """Return what changes: ensembles of ``preprocess`` and networks, their steps, and who shares these.

    Models of somebody else stay as they are: what a schedule would be for them is not known here.

    Raises:
        BuildError: a configuration cannot be read.
    """
    paths = sorted(repository.glob("*/config.pbtxt"))
    found = {path.parent.name: _parsed(path) for path in paths}
    steps = {name: [step.model_name for step in config.ensemble_scheduling.step] for name, config in found.items()}
    known = {name for name, config in found.items() if name in _DECODERS or is_network(config)}
    ours = {name for name, models in steps.items() if configs.PREPROCESS in models and known.issuperset(models)}
    ours |= {model for name in ours for model in steps[name]}
    for name in ours:
        schedule(found[name], chosen)
    sharing = {name for name, models in steps.items() if name not in ours and ours & set(models)}
    for name in sharing:
        # Such as the ensemble that decodes on the GPU: it may allow no more than any of its steps.
        most = (found[model].max_batch_size for model in steps[name] if model in found)
        found[name].max_batch_size = min(found[name].max_batch_size, *most)
    return {name: found[name] for name in sorted(ours | sharing)}


def _parsed(path: Path) -> pb.ModelConfig:
    try:
        return configs.parse(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, BuildError) as exc:
        raise BuildError(f"{path} cannot be read ({exc}); mend it, or take it out of the repository") from exc


def known_options(repository: Path) -> ServingOptions:
    """Return the options of the last build or tuning."""
    return ServingOptions(**manifest.read(repository).get("serving", {}))


def circumstances() -> dict[str, Any]:
    """Return when and where this is measured."""
    return {
        "measured_at": datetime.datetime.now(tz=datetime.UTC).isoformat(timespec="seconds"),
        "processor": processor(),
        "cores": len(os.sched_getaffinity(0)),
        "system": platform.platform(),
    }


def processor() -> str:
    """Return the name of the processor, as its maker gave it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.processor() or platform.machine()
