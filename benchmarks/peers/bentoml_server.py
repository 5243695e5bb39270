"""BentoML: adaptive batching, images as PIL images, as in BentoML's own ResNet example."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import bentoml
import numpy as np
import numpy.typing as npt
from PIL.Image import Image

from benchmarks.peers.common import SETTINGS, Network, best, crop


@bentoml.service(workers=SETTINGS["workers"], traffic={"timeout": 60})
class Classifier:
    """Images to classes."""

    def __init__(self) -> None:
        self._network = Network()
        self._pool = ThreadPoolExecutor(SETTINGS["decoders"])

    @bentoml.api(batchable=True, max_batch_size=SETTINGS["batch"], max_latency_ms=SETTINGS["latency_ms"])
    def classify(self, images: list[Image]) -> list[dict[str, Any]]:
        """Classify a batch."""
        pixels: list[npt.NDArray[np.uint8]] = list(self._pool.map(crop, images))
        return [best(row) for row in self._network(np.stack(pixels))]
