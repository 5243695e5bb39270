"""Publishes a finished build: all of it, or nothing.

Files are first written in full beside their destinations, under names that Triton does not read. Only when
the last of them lies on the disk are they renamed. So a build that fails, or a disk that fills, leaves the
repository as it was; and a server that has a file open keeps the old one until it loads the model again.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from resnet_build.errors import BuildError

_SUFFIX = ".tmp"


class Publication:
    """Collects files for one repository; :func:`publication` makes, publishes and cleans up one."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._staged: list[tuple[Path, Path]] = []

    def write(self, name: str, content: str) -> None:
        """Stage a text file; ``name`` is relative to the repository."""
        with self._stage(name).open("w", encoding="utf-8") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())

    def copy(self, name: str, source: Path) -> None:
        """Stage a copy of a file; ``name`` is relative to the repository."""
        with source.open("rb") as reader, self._stage(name).open("wb") as writer:
            shutil.copyfileobj(reader, writer)
            writer.flush()
            os.fsync(writer.fileno())

    def folder(self, name: str) -> None:
        """Make sure that a folder exists; Triton wants one per version, empty for ensembles."""
        (self._root / name).mkdir(parents=True, exist_ok=True)

    def _stage(self, name: str) -> Path:
        destination = self._root / name
        # In the model's own folder, not in the version's: a version must not appear before it is whole.
        folder = self._root / Path(name).parts[0] if len(Path(name).parts) > 1 else self._root
        folder.mkdir(parents=True, exist_ok=True)
        staged = folder / f".{name.replace('/', '-')}.{os.getpid()}{_SUFFIX}"
        self._staged.append((staged, destination))
        return staged

    def publish(self) -> None:
        """Rename everything into place, in the order of staging."""
        for staged, destination in self._staged:
            destination.parent.mkdir(exist_ok=True)
            staged.replace(destination)
        self._staged.clear()

    def discard(self) -> None:
        """Remove what was staged and not published."""
        for staged, _ in self._staged:
            staged.unlink(missing_ok=True)


@contextlib.contextmanager
def publication(root: Path) -> Iterator[Publication]:
    """Collect files in the block, publish them at its end; an exception in it leaves everything as it was.

    Raises:
        BuildError: the repository cannot be written (no space, no permission).
    """
    collected = Publication(root)
    try:
        _remove_leftovers(root)
        yield collected
        collected.publish()
    except OSError as exc:
        raise BuildError(f"the repository {root} cannot be written: {exc}; nothing was changed") from exc
    finally:
        collected.discard()


def _remove_leftovers(root: Path) -> None:
    """Remove what a killed build left; a build that still runs keeps its files."""
    for leftover in (*root.glob(f".*{_SUFFIX}"), *root.glob(f"*/.*{_SUFFIX}")):
        pid = leftover.name.removesuffix(_SUFFIX).rsplit(".", 1)[-1]
        if not (pid.isdigit() and Path("/proc", pid).exists()):
            leftover.unlink(missing_ok=True)
