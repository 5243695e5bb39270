"""The temporary folder of a server, and who removes what a server leaves.

The folder holds the backend directory and, by default, Triton's log; its name begins the names of the server's
shared memory in ``/dev/shm``. The process that runs :class:`TritonServer` and its watchdog share a lock on the folder
(flock), which the kernel releases when both have ended. When the server has ended, the watchdog removes the shared
memory. The folder, and shared memory that is still there, is removed

- by ``TritonServer``, when it stops;
- by the watchdog, if it outlives that process;
- by the next start of the same user, if both were killed: a folder that can be locked belongs to no process.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

from resnet_serve import watchdog
from resnet_serve.errors import ServerError

_PREFIX = "resnet_serve_"
# As `folder` names them; users may have other folders that begin so.
_NAME = re.compile(rf"{_PREFIX}\d+_[a-z0-9_]{{8}}")


@contextlib.contextmanager
def folder() -> Iterator[tuple[Path, int]]:
    """Make a locked folder, and remove it in the end; yields its path and the descriptor that holds the lock."""
    # Named so that the next start takes it for a server's only after it is locked.
    new = Path(tempfile.mkdtemp(prefix=f"new_{_PREFIX}{os.getpid()}_"))
    with contextlib.ExitStack() as stack:
        try:
            lock = stack.enter_context(_locked(new, fcntl.LOCK_SH))
        except OSError as exc:
            new.rmdir()
            raise ServerError(f"{new.parent} cannot be locked ({exc.strerror}): set TMPDIR to another folder") from exc
        made = new.rename(new.with_name(new.name.removeprefix("new_")))
        try:
            yield made, lock
        finally:
            watchdog.remove(made)


def remove_abandoned() -> None:
    """Remove what servers of this user have left whose process and watchdog were killed."""
    for found in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        if not _NAME.fullmatch(found.name):
            continue
        # Locked by a living process, gone meanwhile, or of another user, who could give it the name of a living one.
        with contextlib.suppress(OSError), _locked(found, fcntl.LOCK_EX):
            if found.lstat().st_uid == os.getuid():
                watchdog.remove(found)


@contextlib.contextmanager
def _locked(path: Path, lock: int) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, lock | fcntl.LOCK_NB)
        yield descriptor
    finally:
        os.close(descriptor)
