"""Real pixels for the parity gate, from permissively licensed photos that packages ship."""

from __future__ import annotations

import importlib.util
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image
from resnet_client.preprocessing import Recipe, crop_pixels, decode

from resnet_build.errors import BuildError

if TYPE_CHECKING:
    import torch

# scikit-image's are CC0 or public domain, scikit-learn's CC BY 2.0.
_SHIPPED = {
    "skimage": ("data/chelsea.png", "data/coffee.png", "data/rocket.jpg", "data/astronaut.png"),
    "sklearn": ("datasets/images/flower.jpg", "datasets/images/china.jpg"),
}
# More of scikit-image's, of less everyday things: for the ranges of a quantisation variety counts.
_VARIED = {
    "skimage": tuple(
        f"data/{name}"
        for name in (
            "retina.jpg", "hubble_deep_field.jpg", "motorcycle_left.png", "ihc.png", "camera.png", "coins.png",
            "grass.png", "gravel.png", "brick.png",
        )
    ),
}  # fmt: skip
_ROTATIONS = (None, Image.Transpose.ROTATE_90, Image.Transpose.ROTATE_180, Image.Transpose.ROTATE_270)
_FLIPS = (None, Image.Transpose.FLIP_LEFT_RIGHT)
_ZOOMS = (1.0, 0.8, 0.6, 0.45)


def shipped_photos() -> list[Path]:
    """Find the photos of the installed packages, without importing these."""
    return _find(_SHIPPED)


def calibration_photos() -> list[Path]:
    """Find these and more photos of the installed packages, as various as they come."""
    return _find(_SHIPPED) + _find(_VARIED)


def _find(shipped: Mapping[str, Sequence[str]]) -> list[Path]:
    found = []
    for package, names in shipped.items():
        spec = importlib.util.find_spec(package)
        for folder in (spec.submodule_search_locations or []) if spec else []:
            found += [path for name in names if (path := Path(folder, name)).exists()]
    return found


def sample_pixels(count: int, recipe: Recipe) -> torch.Tensor:
    """Make prepared pixels that all differ: the shipped photos, then their flips, rotations and zooms.

    Returns:
        uint8 tensor, shape (count, 224, 224, 3), RGB.

    Raises:
        BuildError: no photos are installed.
    """
    import torch

    paths = shipped_photos()
    if not paths:
        raise BuildError(
            "the parity gate needs real photos: install scikit-image or scikit-learn, which ship some "
            "(pip install 'resnet50-triton[build]' does)"
        )
    images = [decode(path.read_bytes()) for path in paths]
    variants = itertools.product(_ZOOMS, _ROTATIONS, _FLIPS, images)
    pixels = [
        crop_pixels(_varied(image, zoom, rotation, flip), recipe)
        for zoom, rotation, flip, image in itertools.islice(variants, count)
    ]
    # More than the variants there are: the batch is filled by repeating them.
    return torch.from_numpy(np.stack(list(itertools.islice(itertools.cycle(pixels), count))))


def _varied(
    image: Image.Image, zoom: float, rotation: Image.Transpose | None, flip: Image.Transpose | None
) -> Image.Image:
    width, height = image.size
    image = image.crop((0, 0, int(width * zoom), int(height * zoom)))
    for change in (rotation, flip):
        image = image if change is None else image.transpose(change)
    return image
