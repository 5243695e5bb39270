"""Memory that a server on this machine maps, too: files in ``/dev/shm``, one for each photo under way.

Their owner holds a lock on each; it ends with the owner's process, however that ends. What nobody holds a lock on was
left behind by a process that was killed, and whoever comes next removes it.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import re
import secrets
import threading
import time
import weakref
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from resnet_client._endpoint import Endpoint

_FOLDER = Path("/dev/shm")  # noqa: S108  # it is where shm_open looks, not a folder for temporary files
_NAME = re.compile(r"resnet-client-[0-9a-f]{32}")
_SMALLEST_BYTES = 1 << 18
_MOST_BYTES = 1 << 28  # of one client; what does not fit travels with its request


class Region:
    """A file that holds one photo at a time.

    Attributes:
        name: of the file, and for the server; nobody can guess it.
        size: in bytes.
        memory: its content.
        known_to: servers that have mapped it.
    """

    def __init__(self, size: int) -> None:
        """Make the file, locked from its first moment.

        Raises:
            OSError: there is no shared memory here, or not enough of it.
        """
        self.name = f"resnet-client-{secrets.token_hex(16)}"
        self.size = size
        self.known_to: set[Endpoint] = set()
        self._path = _FOLDER / self.name
        self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            _lock(self._file)
            os.posix_fallocate(self._file, 0, size)  # writing to more than there is would end the process
            self.memory = memoryview(mmap.mmap(self._file, size))
        except BaseException:
            self.remove()
            raise

    def remove(self) -> None:
        """Remove the file; whoever has mapped it keeps the memory."""
        with contextlib.suppress(OSError):
            self._path.unlink()
        os.close(self._file)


class Regions:
    """The regions of one client, for any number of threads; used again, and removed at the latest when Python ends."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._made: list[Region] = []
        self._idle: list[tuple[float, Region]] = []
        self._process = os.getpid()
        self._remove = weakref.finalize(self, _remove, self._made, self._process)
        for name in _names():
            is_orphan(name)

    @property
    def all(self) -> tuple[Region, ...]:
        """Those that there are, used now or not; none after a fork, because they are still the parent's."""
        return tuple(self._made) if os.getpid() == self._process else ()

    def take(self, size: int) -> Region | None:
        """A region with room for so many bytes, for one photo; None where there is none left.

        Raises:
            OSError: there is no shared memory here, or not enough of it.
        """
        if os.getpid() != self._process:
            return None
        with self._lock:
            now_s = time.monotonic()
            fitting = [entry for entry in self._idle if entry[0] <= now_s and entry[1].size >= size]
            if fitting:
                entry = min(fitting, key=lambda entry: entry[1].size)
                self._idle.remove(entry)
                return entry[1]
            size = max(_SMALLEST_BYTES, 1 << (size - 1).bit_length())
            if size + sum(region.size for region in self._made) > _MOST_BYTES or size > _free_bytes() // 2:
                return None
            self._made.append(Region(size))
            return self._made[-1]

    def give_back(self, region: Region, rest_s: float) -> None:
        """Its photo is no longer needed; or may still be read by a server, for so many seconds."""
        with self._lock:
            self._idle.append((time.monotonic() + rest_s, region))

    def remove(self) -> None:
        """Remove all of them."""
        self._remove()


def is_orphan(name: str) -> bool:
    """Whether this is the name of a region whose owner is gone; what is left of it is removed."""
    if not _NAME.fullmatch(name):
        return False
    try:
        file = os.open(_FOLDER / name, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return True
    except OSError:  # another user's
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        (_FOLDER / name).unlink(missing_ok=True)
    except OSError:  # its owner lives
        return False
    else:
        return True
    finally:
        os.close(file)


def _free_bytes() -> int:
    """What is left of this machine's shared memory; servers need some of it for themselves."""
    found = os.statvfs(_FOLDER)
    return found.f_bavail * found.f_frsize


def _lock(file: int) -> None:
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    if not os.fstat(file).st_nlink:
        raise FileNotFoundError("somebody tidied up before the file was locked")


def _names() -> Iterator[str]:
    with contextlib.suppress(OSError):
        yield from os.listdir(_FOLDER)  # noqa: PTH208  # names only


def _remove(regions: list[Region], process: int) -> None:
    if os.getpid() == process:
        while regions:
            regions.pop().remove()
