"""One session for each batch size, where a session that changes its size is slow.

ONNX Runtime's CUDA provider plans a network's convolutions for the batch size of the last run and forgets the plan
when the size changes. On an H200 that took 0.15 s with heuristic search and 0.5 to 1.1 s with exhaustive search, for
a batch that computes in 2 ms; a dynamic batcher changes the size with almost every batch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from resnet_serve.backends.network_backend import Arrays  # which imports what only Triton's workers have


class Session(Protocol):
    """What ONNX Runtime's session has."""

    def run(self, output_names: list[str], input_feed: Arrays) -> list[npt.NDArray[Any]]:
        """Return the named outputs, in that order."""


class SessionPerSize:
    """Sessions of one network, each for batches of one power of two; smaller batches are filled up.

    Each session holds the weights once more. They are opened at the first batch of their size: the model's warm-up
    decides which are there before the first request.

    Args:
        open_session: opens one more; the first is opened at once, so that what is wrong with it is said at load.
    """

    def __init__(self, open_session: Callable[[], Session]) -> None:
        self._open = open_session
        self._sessions = {1: open_session()}

    def run(self, output_names: list[str], input_feed: Arrays) -> list[npt.NDArray[Any]]:
        """Run one batch: arrays of shape (N, …) in, the named outputs of shape (N, …) out."""
        rows = len(next(iter(input_feed.values())))
        size = 1 << (rows - 1).bit_length()
        if size not in self._sessions:
            self._sessions[size] = self._open()
        filled = {name: _filled(array, size) for name, array in input_feed.items()}
        return [array[:rows] for array in self._sessions[size].run(output_names, filled)]


def _filled(array: npt.NDArray[Any], size: int) -> npt.NDArray[Any]:
    if len(array) == size:
        return array
    whole = np.zeros((size, *array.shape[1:]), array.dtype)
    whole[: len(array)] = array
    return whole
