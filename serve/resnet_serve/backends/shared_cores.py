"""Which cores an instance of a network has: its own, or those of its siblings, too, while they compute nothing.

Several instances with some of the cores each are faster under load than one with all, because no core waits for the
slowest thread of a batch; but a lone image would take as many times longer. So an instance that is alone takes the
cores of all. This pays for OpenVINO, whose idle threads sleep. ONNX Runtime's wait in a loop, on a core that another
instance needs: a lone image took as long as on one core, and without the loop nothing was gained under load.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

# A sibling that finds itself alone has the exclusive lock for some microseconds.
_TRIES = 20


class SharedCores:
    """Tells one instance, a process of its own, whether another one computes.

    Whoever computes has a shared lock on a folder (flock(2), which needs no file, nor the right to write); who gets
    the exclusive one for a moment is alone. The kernel takes the locks of a process that dies.

    Args:
        folder: the model repository, so that networks next to each other are noticed, too.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)

    @contextlib.contextmanager
    def computing(self) -> Iterator[bool]:
        """Compute inside; yields whether no other instance does, and never waits for one that does."""
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
        # Another one has it; or the file system knows no such locks, and then no instance ever is alone.
        with contextlib.suppress(OSError):
            fcntl.flock(self._folder, lock | fcntl.LOCK_NB)
            return True
        return False

    def close(self) -> None:
        """Let the folder go."""
        os.close(self._folder)
