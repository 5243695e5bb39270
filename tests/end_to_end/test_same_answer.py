"""The same image gets the same answer, equal to the bit, however many requests are in flight with it."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from resnet_client import Client
from resnet_serve import ALL_MODELS, ServerConfig, TritonServer

# MKL adds in another order for another batch size when it computes TorchScript's last layer; up to 1.3e-5 was seen.
TOLERANCES = {"resnet50_torchscript": 1e-4}
VARIANTS = ("resnet50_int8", "resnet50_bf16", "resnet50_fp32", "resnet50_torchscript")


@pytest.fixture(scope="module")
def variants(variant_repository: Path) -> Iterator[TritonServer]:
    """All of them on one server."""
    with TritonServer(ServerConfig(variant_repository, models=ALL_MODELS, port=0)) as running:
        yield running


@pytest.fixture(scope="module")
def crops(images: dict[str, Path]) -> list[bytes]:
    """Crops of the bundled images, all different."""
    found = []
    for path in images.values():
        image = Image.open(path).convert("RGB")
        width, height = image.width // 2, image.height // 2
        for left in (0, width):
            for top in (0, height):
                buffer = io.BytesIO()
                image.crop((left, top, left + width, top + height)).save(buffer, "JPEG", quality=90)
                found.append(buffer.getvalue())
    return found


def answers(client: Client, images: list[bytes], in_flight: int) -> np.ndarray:
    """Probabilities of all classes of each image."""
    classified = client.classify_many(images, top_k=1000, max_in_flight=in_flight)
    by_class = [sorted((p.index, p.probability) for p in outcome.result.predictions) for outcome in classified]
    return np.array(by_class)[..., 1]


@pytest.mark.parametrize(
    "model", ["resnet50", *(pytest.param(name, marks=pytest.mark.reliability) for name in VARIANTS)]
)
def test_server_answers_the_same_under_load(request: pytest.FixtureRequest, crops: list[bytes], model: str) -> None:
    """With 1, 8 and 32 requests in flight, which the server computes in batches."""
    server = request.getfixturevalue("variants" if model in VARIANTS else "server")
    tolerance = TOLERANCES.get(model, 0)
    with Client(server.grpc_url, model=model) as client:
        alone = answers(client, crops, 1)
        for in_flight in (8, 32):
            assert np.abs(answers(client, crops, in_flight) - alone).max() <= tolerance, in_flight
        if model == "resnet50":
            (entry,) = client.statistics(model="network_onnx")
            assert entry.mean_batch_size > 1
