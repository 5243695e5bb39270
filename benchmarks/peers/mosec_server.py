"""mosec: decoding and network as two stages, each with its own processes."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import numpy.typing as npt
from mosec import Server, Worker

from benchmarks.peers.common import PORT, SETTINGS, Network, best, prepare


class Preprocess(Worker):
    """Images to pixels, one at a time."""

    def deserialize(self, data: bytes) -> bytes:
        """Return the body unchanged."""
        return data

    def forward(self, data: bytes) -> npt.NDArray[np.uint8]:
        """Prepare an image."""
        return prepare(data)


class Inference(Worker):
    """Batches of pixels to classes."""

    def __init__(self) -> None:
        super().__init__()
        self._network = Network()

    def forward(self, data: list[npt.NDArray[np.uint8]]) -> list[dict[str, Any]]:
        """Classify a batch."""
        return [best(row) for row in self._network(np.stack(data))]


if __name__ == "__main__":
    sys.argv += ["--address", "127.0.0.1", "--port", str(PORT), "--log-level", "warning"]
    server = Server()
    server.append_worker(Preprocess, num=SETTINGS["decoders"])
    server.append_worker(
        Inference, num=SETTINGS["workers"], max_batch_size=SETTINGS["batch"], max_wait_time=SETTINGS["wait_ms"]
    )
    server.run()
