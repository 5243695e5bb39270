"""How the in-process limit counts what it computes."""

from __future__ import annotations

import io
import time

import numpy as np
import pytest
from PIL import Image
from resnet_client.preprocessing import PreprocessConfig

from benchmarks import in_process

CONFIG = PreprocessConfig(232, 224)


@pytest.fixture(scope="module")
def jpeg() -> bytes:
    """An image."""
    buffer = io.BytesIO()
    Image.new("RGB", (300, 300)).save(buffer, "JPEG")
    return buffer.getvalue()


def test_rate_counts_the_batches_after_the_first() -> None:
    """Five of half a second each are two a second."""
    assert in_process.rate([0.5 * number for number in range(5)]) == pytest.approx(2.0)


def test_images_per_s_adds_up_the_networks(jpeg: bytes) -> None:
    """Each needs at least 50 ms for a batch of four, so that two classify at most 160 images a second."""

    def network(pixels: object) -> np.ndarray:
        assert np.shape(pixels) == (4, 224, 224, 3)
        time.sleep(0.05)
        return np.zeros((4, 1000), np.float32)

    found = in_process.images_per_s([network, network], [jpeg], CONFIG, batch=4, seconds=0.3)
    assert 0 < found <= 160


def test_images_per_s_raises_what_the_network_raises(jpeg: bytes) -> None:
    """Instead of waiting for it."""

    def broken(_: object) -> np.ndarray:
        raise ValueError("no such input")

    with pytest.raises(ValueError, match="no such input"):
        in_process.images_per_s([broken], [jpeg], CONFIG, batch=1, seconds=60)
