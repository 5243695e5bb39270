"""Publishes files in a folder: all of them, or none.

All files are first written next to their destinations, under names that Triton does not read, and then renamed. So a
build that fails, or a full disk, leaves the repository as it was. A server that has a file open keeps the old one
until it loads the model again. A marker file exists until the last file is renamed; if the build is killed before
that, the next build writes all files again.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

from resnet_build import BuildError, Report

_SUFFIX = ".tmp"
_LOCK = ".resnet-build.lock"
_MARK = ".resnet-build.unfinished"


class Publication:
    """Collects files for one repository; :func:`publication` makes, publishes and cleans up one."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._staged: list[tuple[Path, Path]] = []
        self._folders: list[Path] = []
        self._made: list[Path] = []
        self._unwanted: list[Path] = []

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
        """Create a folder when all files are staged; Triton requires one per version, which is empty for ensembles."""
        self._folders.append(self._root / name)

    def remove(self, name: str) -> None:
        """Remove a model or a file, if it exists, after all files are in place."""
        self._unwanted.append(self._root / name)

    def _stage(self, name: str) -> Path:
        destination = self._root / name
        # In the model's own folder, not in the version's: a version must not appear before it is complete.
        folder = self._root / Path(name).parts[0] if len(Path(name).parts) > 1 else self._root
        self._make(folder)
        staged = folder / f".{name.replace('/', '-')}.{os.getpid()}{_SUFFIX}"
        self._staged.append((staged, destination))
        return staged

    def _make(self, folder: Path) -> None:
        for path in (*reversed(folder.parents), folder):
            if not path.exists():
                path.mkdir()
                self._made.append(path)

    def publish(self) -> None:
        """Rename everything into place, in the order of staging; Ctrl-C waits until that is done.

        Raises:
            BuildError: a file could not be renamed after others were.
        """
        mark = self._root / _MARK
        with _signals_held():
            for folder in self._folders:
                self._make(folder)
            mark.touch()
            try:
                for staged, destination in self._staged:
                    destination.parent.mkdir(exist_ok=True)
                    staged.replace(destination)
                for path in self._unwanted:
                    if path.is_dir():
                        shutil.rmtree(path, ignore_errors=True)
                    else:
                        path.unlink(missing_ok=True)
                mark.unlink()
            except OSError as exc:
                raise BuildError(f"{self._root} was written only in part ({exc}); build again") from exc
            self._staged.clear()
            self._made.clear()

    def discard(self) -> None:
        """Remove what was staged and not published, and the folders that were made for it."""
        for staged, _ in self._staged:
            staged.unlink(missing_ok=True)
        for folder in reversed(self._made):
            _remove_if_empty(folder)


@contextlib.contextmanager
def _signals_held() -> Iterator[None]:
    """Delay SIGINT and SIGTERM to the end of the block; if the block fails, its exception ends the build instead."""
    if threading.current_thread() is not threading.main_thread():
        yield  # Python's handlers interrupt the main thread only
        return
    held: set[int] = set()
    # Not a signal mask: other threads, such as torch's, would receive the signals, and Python would still interrupt
    # the main thread.
    before = {
        number: signal.signal(number, lambda number, _: held.add(number)) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
    for caught in held:
        signal.raise_signal(caught)


@contextlib.contextmanager
def publication(root: Path) -> Iterator[Publication]:
    """Collect files in the block and publish them at its end; after an exception, the repository stays as it was.

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


@contextlib.contextmanager
def locked(root: Path, report: Report) -> Iterator[None]:
    """Lock a repository for the block; wait for another build that holds the lock.

    Raises:
        BuildError: ``root`` is not a folder, or cannot be created.
    """
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise BuildError(f"the repository {root} cannot be created: {exc}") from exc
    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context((root / _LOCK).open("a"))
        except OSError:
            # Without write permission, this build cannot change the repository and needs no lock.
            yield
            return
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            report(f"another build is writing {root}; waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def is_unfinished(root: Path) -> bool:
    """Whether a publication was killed or failed between its renames; some files may be old and some new."""
    return (root / _MARK).exists()


def _remove_leftovers(root: Path) -> None:
    """Remove temporary files of killed builds, but not those of a build that is running."""
    for leftover in (*root.glob(f".*{_SUFFIX}"), *root.glob(f"*/.*{_SUFFIX}")):
        pid = leftover.name.removesuffix(_SUFFIX).rsplit(".", 1)[-1]
        if not (pid.isdigit() and Path("/proc", pid).exists()):
            leftover.unlink(missing_ok=True)
            if leftover.parent != root:
                _remove_if_empty(leftover.parent)


def _remove_if_empty(folder: Path) -> None:
    with contextlib.suppress(OSError):
        folder.rmdir()
