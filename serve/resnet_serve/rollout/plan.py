"""What is asked for, and what it means for each network."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

from resnet_serve.rollout import control
from resnet_serve.rollout.comparison import Bounds
from resnet_serve.rollout.control import Config, ModelControl
from resnet_serve.rollout.errors import RolloutError
from resnet_serve.rollout.folders import Folders, read_artifact

_PROBABILITIES = "PROBABILITIES__0"
# Copies bear these, so that what an interrupted roll-out left behind is replaced by the next one.
CANDIDATE, BASELINE = "_candidate", "_baseline"


@dataclasses.dataclass(frozen=True)
class Options:
    """What is asked for.

    Attributes:
        version: which is to be in service.
        models: which networks; empty for all in service that this version is there for.
        repository: the server's model repository, if it is on this machine.
        artifact: the new version's file, if it is not in the repository yet.
        images: folder with the pictures to compare on; None for those that packages ship.
        calls: how many pictures, and how many calls are timed of each version.
        bounds: what the new version has to keep.
        dry_run: compare only.
    """

    version: int
    models: tuple[str, ...]
    repository: Path | None
    artifact: Path | None
    images: Path | None
    calls: int
    bounds: Bounds
    dry_run: bool


@dataclasses.dataclass(frozen=True)
class Plan:
    """What is to become of one network.

    Attributes:
        config: as it is served now.
        folders: its versions in the repository.
        old: the version in service.
        new: the one to come.
        files: the new version's, path in the model's folder → content; None if it is loaded already.
    """

    config: Config
    folders: Folders
    old: int
    new: int
    files: Mapping[str, bytes] | None

    @property
    def model(self) -> str:
        """The network's name."""
        return str(self.config["name"])

    @property
    def classes(self) -> int:
        """How many classes it knows."""
        output = next(output for output in self.config["output"] if output["name"] == _PROBABILITIES)
        return int(output["dims"][0])

    @property
    def kept(self) -> tuple[int, ...]:
        """The versions to be in service after the switch; the highest one answers who names none."""
        return (self.old, self.new) if self.old < self.new else (self.new,)


def make_plans(server: ModelControl, options: Options) -> list[Plan]:
    """Look at the server and at the repository.

    Raises:
        RolloutError: what is asked for is not there.
    """
    served = {name: server.config(name) for name in server.models()}
    networks = {name: config for name, config in served.items() if _is_network(config)}
    if unknown := [name for name in options.models if name not in networks]:
        raise RolloutError(f"{server.url} serves no network {unknown[0]}; it serves {', '.join(networks) or 'none'}")
    plans = {name: _plan(server, networks[name], options) for name in options.models or networks}
    found = [plan for plan in plans.values() if plan is not None]
    missing = [name for name, plan in plans.items() if plan is None]
    if not found or (options.models and missing):
        raise RolloutError(
            f"there is no version {options.version} of {', '.join(missing) or 'any network'} in "
            f"{options.repository or 'a repository on this machine (--repository)'}: "
            f"make it with resnet-build --model-version {options.version}, or name its file with --artifact"
        )
    return found


def _plan(server: ModelControl, config: Config, options: Options) -> Plan | None:
    """Look at one network; None if the version asked for is nowhere."""
    folders = Folders(options.repository, config["name"])
    loaded = server.versions(config["name"])
    if options.version in loaded:
        return Plan(config, folders, loaded[-1], options.version, None)
    higher = [number for number in folders.versions() if number > max(options.version, loaded[-1])]
    if higher:
        raise RolloutError(
            f"{folders.path(higher[-1])} is newer than version {options.version}, and the next start would serve it: "
            f"move it away, or roll out version {higher[-1]}"
        )
    files = _files(config, folders, options)
    return None if files is None else Plan(config, folders, loaded[-1], options.version, files)


def _files(config: Config, folders: Folders, options: Options) -> Mapping[str, bytes] | None:
    """Read the new version; None if there is none."""
    if options.artifact is None:
        return folders.files(options.version)
    name = control.artifact_name(config)
    if not options.models and Path(name).suffix != options.artifact.suffix:
        return None
    if options.version in folders.versions():
        raise RolloutError(f"{folders.path(options.version)} is there already: leave --artifact away, or move it")
    return read_artifact(options.artifact, name, options.version)


def _is_network(config: Config) -> bool:
    is_copy = str(config["name"]).endswith((CANDIDATE, BASELINE))
    classifies = any(output["name"] == _PROBABILITIES for output in config.get("output", []))
    return classifies and not is_copy and "ensemble_scheduling" not in config
