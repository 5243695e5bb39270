"""Code that the peers share: preprocessing with Pillow, and the network in its engine.

It uses only the network's file of this project.
"""

from __future__ import annotations

import io
import json
import os
import threading
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from benchmarks.networks import PEER_VARIANT, open_network

TOP = 5

# Set by the benchmark: the network's file, its preprocessing config, the port, and the tuned settings.
FILE = Path(os.environ["BENCH_FILE"])
_PREPROCESSING = json.loads(os.environ["BENCH_PREPROCESSING"])
RESIZE, CROP = _PREPROCESSING["resize"], _PREPROCESSING["crop"]
INTERPOLATION = Image.Resampling[_PREPROCESSING["interpolation"].upper()]
PORT = int(os.environ["BENCH_PORT"])
SETTINGS: dict[str, int] = json.loads(os.environ["BENCH_SETTINGS"])


def prepare(jpeg: bytes) -> npt.NDArray[np.uint8]:
    """Decode, resize the short side, crop the centre: torchvision's transforms, with Pillow.

    Returns:
        uint8 pixels of shape (CROP, CROP, 3), RGB. Normalisation is part of the network's file.
    """
    return crop(Image.open(io.BytesIO(jpeg)))


def crop(image: Image.Image) -> npt.NDArray[np.uint8]:
    """Decode, resize and crop an image that Pillow has opened; like :func:`prepare`."""
    image = image.convert("RGB")
    width, height = image.size
    short = min(width, height)
    size = (int(RESIZE * width / short), int(RESIZE * height / short))
    image = image.resize(size, INTERPOLATION)
    left, top = round((size[0] - CROP) / 2), round((size[1] - CROP) / 2)
    return np.asarray(image.crop((left, top, left + CROP, top + CROP)))


class Network:
    """The network in its engine, on the configured number of threads."""

    def __init__(self) -> None:
        self._run = open_network(PEER_VARIANT, FILE, SETTINGS["threads"])
        self._turn = threading.Lock()  # an OpenVINO request supports one call at a time

    def __call__(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Probabilities of shape (N, 1000) for pixels of shape (N, CROP, CROP, 3)."""
        with self._turn:
            return self._run(pixels)


def best(probabilities: npt.NDArray[np.float32]) -> dict[str, Any]:
    """The five most probable classes of one row, as JSON."""
    indices = np.argsort(-probabilities)[:TOP]
    return {"classes": [{"index": int(i), "probability": float(probabilities[i])} for i in indices]}
