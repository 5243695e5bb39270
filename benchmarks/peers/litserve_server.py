"""LitServe: requests batched into worker processes, which decode and run the network."""

# No postponed annotations, because LitServe and FastAPI read the annotations at runtime.
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any

import litserve
import numpy as np
import numpy.typing as npt
from fastapi import Body

from benchmarks.peers.common import PORT, SETTINGS, Network, best, prepare

_Jpeg = Annotated[bytes, Body(media_type="image/jpeg")]


class Classifier(litserve.LitAPI):
    """Images to classes."""

    def setup(self, device: str) -> None:
        """Open the network; called once in each worker."""
        del device  # always the CPU
        self._network = Network()
        self._pool = ThreadPoolExecutor(SETTINGS["decoders"])

    def decode_request(self, request: _Jpeg) -> bytes:
        """Return the body unchanged; the whole batch is decoded later."""
        return request

    def batch(self, inputs: list[bytes]) -> npt.NDArray[np.uint8]:
        """Prepare the images of a batch."""
        return np.stack(list(self._pool.map(prepare, inputs)))

    def predict(self, x: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Run the network."""
        return self._network(x)

    def unbatch(self, output: npt.NDArray[np.float32]) -> list[npt.NDArray[np.float32]]:
        """One row for each request."""
        return list(output)

    def encode_response(self, output: npt.NDArray[np.float32]) -> dict[str, Any]:
        """Return the most probable classes."""
        return best(output)


if __name__ == "__main__":
    api = Classifier(max_batch_size=SETTINGS["batch"], batch_timeout=SETTINGS["wait_ms"] / 1e3, api_path="/classify")
    server = litserve.LitServer(
        api, accelerator="cpu", workers_per_device=SETTINGS["workers"], timeout=False, fast_queue=True
    )
    server.run(host="127.0.0.1", port=PORT, generate_client_file=False, log_level="warning")
