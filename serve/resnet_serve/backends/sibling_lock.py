"""Tells an instance of a network whether it computes alone and may use the cores of its siblings.

Under load, several instances that divide the cores are faster than one with all cores, because no core waits for the
slowest thread of a batch. A single image, however, would take longer on a part of the cores. So an instance that
computes alone uses all cores. This helps with OpenVINO, whose idle threads sleep. Idle threads of ONNX Runtime spin on
a core that another instance needs: a single image took as long as on one core, and without spinning, the throughput
under load did not increase.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

# A sibling that checks whether it is alone holds the exclusive lock for some microseconds.
_TRIES = 20


class SiblingLock:
    """Reports to one instance, which is a process of its own, whether another one computes.

    An instance that computes holds a shared lock on a folder (flock(2), which needs no write permission). An instance
    that first gets the exclusive lock is alone. The kernel releases the locks of a process that dies.

    Args:
        folder: the model repository, so that other networks in it count, too.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)

    @contextlib.contextmanager
    def computing(self) -> Iterator[bool]:
        """Hold the shared lock while the block computes; yields whether this instance is alone. Never waits."""
        is_alone = self._try(fcntl.LOCK_EX)
        for _ in range(_TRIES):
            if self._try(fcntl.LOCK_SH):
                break
            os.sched_yield()
        try:
            yield is_alone
        finally:
            self._try(fcntl.LOCK_UN)

    def _try(self, lock: int) -> bool:
        # An error means that another instance holds the lock, or that the file system does not support locks; then no
        # instance is ever alone.
        with contextlib.suppress(OSError):
            fcntl.flock(self._folder, lock | fcntl.LOCK_NB)
            return True
        return False

    def close(self) -> None:
        """Close the folder."""
        os.close(self._folder)
