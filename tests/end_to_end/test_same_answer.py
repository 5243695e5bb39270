"""The same image gets the same probabilities, equal to the bit, however many requests are in flight with it."""

from __future__ import annotations

import io
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import tritonclient.grpc as triton
from PIL import Image
from resnet_client import Client
from resnet_client.requests import IMAGE, PIXELS, PROBABILITIES
from resnet_serve import ALL_MODELS, ServerConfig, TritonServer

if TYPE_CHECKING:
    pass

BATCHES = (2, 5, 8, 32)
COMPARED = 8
# MKL adds in another order for another batch size when it computes TorchScript's last layer; up to 1.3e-5 was seen.
TORCHSCRIPT_TOLERANCE = 1e-4


class Served:
    """One model on a server.

    Attributes:
        tolerance: the largest difference between two answers to one image.
    """

    def __init__(self, server: TritonServer, client: Client, model: str) -> None:
        self.tolerance = TORCHSCRIPT_TOLERANCE if model == "resnet50_torchscript" else 0
        self._triton = triton.InferenceServerClient(server.grpc_url.removeprefix("grpc://"))
        self._client = client
        self._model = model
        (config,) = (entry.config for entry in server.models() if entry.name == model)
        self._network = config["ensemble_scheduling"]["step"][-1]["model_name"]
        self._batches = self._batches_so_far()

    def classify(self, images: list[bytes], *, in_flight: int) -> tuple[np.ndarray, set[int]]:
        """Send one image per request.

        Returns:
            Probabilities of shape (N, classes), and the sizes of the batches that the network executed.
        """
        rows = [np.array([[image]], dtype=np.object_) for image in images]
        with ThreadPoolExecutor(in_flight) as callers:
            answers = np.concatenate(list(callers.map(lambda row: self._infer(self._model, IMAGE, row), rows)))
        return answers, self._new_batches(len(images))

    def compute(self, pixels: np.ndarray) -> np.ndarray:
        """Return the probabilities of prepared pixels, sent in one request, which is one batch."""
        answers = self._infer(self._network, PIXELS, pixels)
        assert self._new_batches(len(pixels)) == {len(pixels)}
        return answers

    def _infer(self, model: str, name: str, array: np.ndarray) -> np.ndarray:
        tensor = triton.InferInput(name, array.shape, "BYTES" if name == IMAGE else "UINT8")
        tensor.set_data_from_numpy(array)
        answer = self._triton.infer(model, [tensor], outputs=[triton.InferRequestedOutput(PROBABILITIES)])
        return answer.as_numpy(PROBABILITIES)

    def _batches_so_far(self) -> Counter[int]:
        (entry,) = self._client.statistics(model=self._network)
        return Counter(entry.batch_sizes)

    def _new_batches(self, images: int) -> set[int]:
        """Sizes of the batches since the last call, once they hold so many images: statistics lag the answers."""
        before, deadline_s = self._batches, time.monotonic() + 10
        while True:
            self._batches = self._batches_so_far()
            new = self._batches - before
            if sum(size * count for size, count in new.items()) == images:
                return set(new)
            assert time.monotonic() < deadline_s, f"the statistics show {new} for {images} images"
            time.sleep(0.02)


@pytest.fixture(scope="module")
def variants(variant_repository: Path) -> Iterator[TritonServer]:
    """All of them on one server."""
    with TritonServer(ServerConfig(variant_repository, models=ALL_MODELS, port=0)) as running:
        yield running


VARIANTS = ("resnet50_int8", "resnet50_bf16", "resnet50_fp32", "resnet50_torchscript")


@pytest.fixture(params=["resnet50", *(pytest.param(name, marks=pytest.mark.reliability) for name in VARIANTS)])
def served(request: pytest.FixtureRequest) -> Iterator[Served]:
    """Each model, while the others get no requests."""
    server = request.getfixturevalue("variants" if request.param in VARIANTS else "server")
    with Client(server.grpc_url) as client:
        yield Served(server, client, request.param)


@pytest.fixture(scope="module")
def crops(images: dict[str, Path]) -> list[bytes]:
    """Crops of the bundled images, all different."""
    found = []
    for path in images.values():
        image = Image.open(path).convert("RGB")
        width, height = image.width // 2, image.height // 2
        for left in (0, width // 2, width):
            for top in (0, height):
                buffer = io.BytesIO()
                image.crop((left, top, left + width, top + height)).save(buffer, "JPEG", quality=90)
                found.append(buffer.getvalue())
    return found


def check_under_load(served: Served, images: list[bytes]) -> None:
    """Compare the answers with 8 and 32 requests in flight with those of one request at a time."""
    alone, batches = served.classify(images, in_flight=1)
    assert batches == {1}
    for in_flight in (8, 32):
        together, batches = served.classify(images, in_flight=in_flight)
        assert max(batches) > 1, f"{in_flight} in flight"
        assert np.abs(together - alone).max() <= served.tolerance, f"{in_flight} in flight"


def test_server_answers_the_same_under_load(served: Served, crops: list[bytes]) -> None:
    """With 1, 8 and 32 requests in flight, which the server computes in batches."""
    check_under_load(served, crops)


def test_network_answers_the_same_in_every_batch_size(served: Served) -> None:
    """Up to 32 images in one request, which is one batch."""
    pixels = np.random.default_rng(0).integers(0, 256, (max(BATCHES), 224, 224, 3), dtype=np.uint8)
    alone = np.concatenate([served.compute(row[np.newaxis]) for row in pixels[-COMPARED:]])
    for size in BATCHES:
        compared = min(size, COMPARED)
        difference = served.compute(pixels[-size:])[-compared:] - alone[-compared:]
        assert np.abs(difference).max() <= served.tolerance, size
