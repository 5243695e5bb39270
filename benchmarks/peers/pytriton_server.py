"""PyTriton: Triton with Python functions bound to it, batched by Triton."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig

from benchmarks.peers.common import PORT, SETTINGS, TOP, Network, prepare


class Classifier:
    """One instance of the model."""

    def __init__(self) -> None:
        self._network = Network()
        self._pool = ThreadPoolExecutor(SETTINGS["decoders"])

    @batch
    def __call__(self, image: npt.NDArray[np.object_]) -> dict[str, npt.NDArray[Any]]:
        """Classify a batch of encoded images, shape (N, 1)."""
        probabilities = self._network(np.stack(list(self._pool.map(prepare, image[:, 0]))))
        indices = np.argsort(-probabilities, axis=1)[:, :TOP]
        return {"index": indices, "probability": np.take_along_axis(probabilities, indices, axis=1)}


def main() -> None:
    """Serve."""
    config = TritonConfig(http_port=PORT, grpc_port=PORT + 1, metrics_port=PORT + 2)
    with Triton(config=config) as triton:
        triton.bind(
            model_name="classify",
            infer_func=[Classifier() for _ in range(SETTINGS["workers"])],
            inputs=[Tensor(name="image", dtype=bytes, shape=(1,))],
            outputs=[
                Tensor(name="index", dtype=np.int64, shape=(TOP,)),
                Tensor(name="probability", dtype=np.float32, shape=(TOP,)),
            ],
            config=ModelConfig(
                max_batch_size=SETTINGS["batch"],
                batcher=DynamicBatcher(max_queue_delay_microseconds=1000 * SETTINGS["wait_ms"]),
            ),
        )
        triton.serve()


if __name__ == "__main__":
    main()
