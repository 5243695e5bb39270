"""Resizes a part of an image with Pillow's antialiased filters, in vector instructions where there is a library.

Pillow computes one colour of one pixel after the other. cykooz-resizer computes many at a time and takes a fifth of the
time; it is optional, because Triton's own container does not have it. Each rounds to 8 bits twice, but one begins with
the rows and the other with the columns: of an image's values a sixth differ, by 1 of 255, and both are as far from the
exact result (docs/preprocessing.md). Only bilinear is left to it: where a bicubic filter overshoots, what is cut off
in between depends on that order.
"""

from __future__ import annotations

import functools
import logging
import threading
from collections.abc import Callable

import numpy as np
from PIL import Image

Box = tuple[float, float, float, float]
_Resize = Callable[[Image.Image, tuple[int, int], Box], Image.Image]

INTERPOLATIONS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}
# Of 255, in a single value: one for the order, one for boxes that Pillow keeps in 32 bits.
_LARGEST_DIFFERENCE = 2


def resample(image: Image.Image, size: tuple[int, int], interpolation: str, box: Box) -> Image.Image:
    """Resize what lies in the box.

    Args:
        image: mode RGB or L.
        size: width and height of the result, in pixels.
        interpolation: ``nearest``, ``bilinear`` or ``bicubic``; the last two are antialiased.
        box: left, top, right and bottom in pixels of ``image``, which need not be whole ones.
    """
    vectorised = _vectorised() if interpolation == "bilinear" else None
    return vectorised(image, size, box) if vectorised else image.resize(size, INTERPOLATIONS[interpolation], box=box)


@functools.cache
def _vectorised() -> _Resize | None:
    """Return the library's way, if it is installed and has shown that it understands this Pillow's images.

    It reads them in memory, whose layout Pillow does not promise.
    """
    try:
        resize = _cykooz()
        for mode in ("RGB", "L"):
            _compare(resize, mode)
    except ImportError:
        return None
    except Exception as exc:  # noqa: BLE001  # whatever it is, Pillow can do the work
        logging.getLogger(__name__).warning("cykooz-resizer is not used, images take longer: %s", exc)
        return None
    return resize


def _compare(resize: _Resize, mode: str) -> None:
    """Raise ValueError if an image of noise does not come out as Pillow's."""
    noise = np.random.default_rng(0).integers(0, 256, (23, 37, 3), dtype=np.uint8)
    image, size, box = Image.fromarray(noise).convert(mode), (16, 11), (1.5, 0.0, 36.25, 23.0)
    expected = np.asarray(image.resize(size, Image.Resampling.BILINEAR, box=box)).astype(int)
    apart = np.abs(np.asarray(resize(image, size, box)) - expected).max()
    if apart > _LARGEST_DIFFERENCE:
        raise ValueError(f"its pixels are {apart} of 255 away from Pillow's")


def _cykooz() -> _Resize:
    import cykooz_resizer as library

    bilinear = library.ResizeAlg.convolution(library.FilterType.bilinear)
    # A resizer keeps its memory from image to image, and must not be shared.
    local = threading.local()

    def resize(image: Image.Image, size: tuple[int, int], box: Box) -> Image.Image:
        resizer = getattr(local, "resizer", None)
        if resizer is None:
            resizer = local.resizer = library.Resizer()
        left, top, right, bottom = box
        part = library.CropBox(left, top, min(right, image.width) - left, min(bottom, image.height) - top)
        resized = Image.new(image.mode, size)
        resizer.resize_pil(image, resized, library.ResizeOptions(bilinear, crop_box=part))
        return resized

    return resize
