"""Instances of a network on the CPU divide its threads, and the first one uses all of them while it computes alone.

Under load this is faster than all threads for one batch, where the others wait, layer after layer, for the thread whose
core also decodes an image. The first instance has a copy of the weights for each way.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy.typing as npt

Arrays = dict[str, npt.NDArray[Any]]
Run = Callable[[Arrays, list[str]], Arrays]
"""Runs one batch of arrays, shape (N, …), and returns the named outputs, shape (N, …), valid until the next run."""


class SharedThreads:
    """Runs batches with an instance's share of the threads, or with all while no other instance computes.

    Each instance holds a shared lock on the artifact while it computes. The kernel ends the lock of a worker that dies.
    Without locks, as on some network file systems, no instance takes the others' threads.

    Args:
        artifact: of the network, which all instances of it open.
        share: runs a batch with a share of the threads.
        all_threads: runs a batch with all of them; the same as ``share`` for other instances than the first.
    """

    def __init__(self, artifact: Path, share: Run, all_threads: Run) -> None:
        self._file = os.open(artifact, os.O_RDONLY)  # until the worker ends
        self._share, self._all_threads = share, all_threads

    def run(self, inputs: Arrays, outputs: list[str]) -> Arrays:
        """Run one batch."""
        is_alone = self.begin()
        try:
            return self._all_threads(inputs, outputs) if is_alone else self._share(inputs, outputs)
        finally:
            self.end()

    def begin(self) -> bool:
        """Lock the artifact, and return whether no other instance computes."""
        is_alone = self._lock(fcntl.LOCK_EX | fcntl.LOCK_NB)
        self._lock(fcntl.LOCK_SH | fcntl.LOCK_NB)
        return is_alone

    def end(self) -> None:
        """Unlock the artifact."""
        self._lock(fcntl.LOCK_UN)

    def _lock(self, operation: int) -> bool:
        try:
            fcntl.flock(self._file, operation)
        except OSError:  # another instance has it
            return False
        return True
