"""Real pixels for the parity gate, from permissively licensed photos that packages ship."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image
from resnet_client import example_images
from resnet_client.preprocessing import Recipe, crop_pixels, decode

from resnet_build.errors import BuildError

if TYPE_CHECKING:
    import torch

_ROTATIONS = (None, Image.Transpose.ROTATE_90, Image.Transpose.ROTATE_180, Image.Transpose.ROTATE_270)
_FLIPS = (None, Image.Transpose.FLIP_LEFT_RIGHT)
_ZOOMS = (1.0, 0.8, 0.6, 0.45)


def sample_pixels(count: int, recipe: Recipe) -> torch.Tensor:
    """Make prepared pixels that all differ: the shipped photos, then their flips, rotations and zooms.

    Returns:
        uint8 tensor, shape (count, 224, 224, 3), RGB.

    Raises:
        BuildError: no photos are installed.
    """
    import torch

    paths = example_images.everyday()
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
