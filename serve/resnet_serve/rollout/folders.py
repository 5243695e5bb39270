"""Version folders of a repository on this machine: Triton takes the highest number at its next start."""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from resnet_serve.rollout.errors import RolloutError


class Folders:
    """The version folders of one model.

    Args:
        repository: the model repository; None or a missing folder stands for one on another machine.
        model: the model's name.
    """

    def __init__(self, repository: Path | None, model: str) -> None:
        self._folder = None if repository is None else repository / model

    @property
    def are_here(self) -> bool:
        """Whether the repository is on this machine."""
        return self._folder is not None and self._folder.is_dir()

    def path(self, version: int) -> Path:
        """Where a version is, or would be."""
        if self._folder is None:
            raise RolloutError("there is no model repository here: name it with --repository")
        return self._folder / str(version)

    def versions(self) -> list[int]:
        """List the versions that lie in the repository."""
        if self._folder is None or not self._folder.is_dir():
            return []
        return sorted(int(path.name) for path in self._folder.iterdir() if path.name.isdecimal())

    def files(self, version: int) -> dict[str, bytes] | None:
        """Read a version's files: path in the model's folder → content; None if its folder is not here."""
        if version not in self.versions():
            return None
        folder = self.path(version)
        return {f"{version}/{file.relative_to(folder)}": _read(file) for file in folder.rglob("*") if file.is_file()}

    def publish(self, files: Mapping[str, bytes], version: int) -> Path:
        """Write a new version; it appears in the repository when it is whole."""
        target = self.path(version)
        # Neither Triton nor the build takes this name for a version.
        staged = target.with_name(f".{version}.{os.getpid()}.tmp")
        try:
            for name, content in files.items():
                file = staged / Path(name).relative_to(str(version))
                file.parent.mkdir(parents=True, exist_ok=True)
                with file.open("wb") as stream:
                    stream.write(content)
                    stream.flush()
                    os.fsync(stream.fileno())
            staged.rename(target)
        except OSError as exc:
            shutil.rmtree(staged, ignore_errors=True)
            raise RolloutError(f"{target} cannot be written: {exc}") from exc
        return target

    def set_aside(self, version: int) -> str:
        """Rename a version's folder, so that no start of a server takes it; return a sentence about it.

        Not to ``2.refused``: Triton reads the number at the beginning of a name, and would look for a version 2.
        """
        source = self.path(version)
        free = (source.with_name(f"refused-{version}{suffix}") for suffix in _suffixes())
        target = next(path for path in free if not path.exists())
        try:
            source.rename(target)
        except OSError as exc:
            return f"{source} could not be renamed ({exc}): rename it to {target.name}, or the next start serves it"
        return f"{source} is now {target.name}, so that no restart serves it; a repository elsewhere needs the same"


def read_artifact(path: Path, name: str, version: int) -> dict[str, bytes]:
    """Read a network's file as if it lay in a version folder."""
    return {f"{version}/{name}": _read(path)}


def _suffixes() -> itertools.chain[str]:
    return itertools.chain([""], (f"-{number}" for number in itertools.count(2)))


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as exc:
        raise RolloutError(f"{path} cannot be read: {exc.strerror}") from exc
