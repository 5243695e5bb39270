"""Resize a part of an image with Pillow's antialiased filters, with vector instructions if cykooz-resizer is installed.

cykooz-resizer takes a fifth of Pillow's time; it is optional, because Triton's container does not have it. Both round
to 8 bits twice, but one resizes rows first and the other columns: a sixth of the values differ, by 1 of 255, and both
are equally close to the exact result (docs/preprocessing.md). It is used for bilinear only: a bicubic filter
overshoots, and the clipped values depend on the order, so the order is that of Pillow for the whole image.
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
# Largest difference of a value, of 255: 1 for the order, 1 for boxes that Pillow keeps in 32 bits.
_LARGEST_DIFFERENCE = 2


def resample(image: Image.Image, size: tuple[int, int], interpolation: str, box: Box) -> Image.Image:
    """Resize the part of an image in the box.

    Args:
        image: mode RGB or L.
        size: width and height of the result, in pixels.
        interpolation: ``nearest``, ``bilinear`` or ``bicubic``; the last two are antialiased.
        box: left, top, right and bottom in pixels of ``image``, which need not be whole ones.
    """
    if interpolation == "bicubic":
        return _rows_first(image, size, box)
    vectorised = _vectorised() if interpolation == "bilinear" else None
    return vectorised(image, size, box) if vectorised else image.resize(size, INTERPOLATIONS[interpolation], box=box)


def _rows_first(image: Image.Image, size: tuple[int, int], box: Box) -> Image.Image:
    """Resize the rows, then the columns, as Pillow does with a whole image that is not very tall.

    With a part, Pillow may resize the columns first; the overshooting values that are clipped in between differ by up
    to 20 of 255.
    """
    left, top, right, bottom = box
    # The filter reads two pixels, of the larger grid, on each side.
    margin = 2 * max(1.0, (bottom - top) / size[1]) + 1
    first, last = max(0, int(top - margin)), min(image.height, int(bottom + margin) + 1)
    part = image.crop((0, first, image.width, last))
    rows = part.resize((size[0], part.height), Image.Resampling.BICUBIC, box=(left, 0, right, part.height))
    return rows.resize(size, Image.Resampling.BICUBIC, box=(0, top - first, size[0], bottom - first))


@functools.cache
def _vectorised() -> _Resize | None:
    """Return cykooz-resizer's function, if it is installed and gives the same result as Pillow for a test image.

    It reads Pillow's memory, whose layout may change.
    """
    try:
        resize = _cykooz()
        for mode in ("RGB", "L"):
            _compare(resize, mode)
    except ImportError:
        return None
    except Exception as exc:  # noqa: BLE001  # Pillow works in any case
        logging.getLogger(__name__).warning("cykooz-resizer is not used, so preprocessing is slower: %s", exc)
        return None
    return resize


def _compare(resize: _Resize, mode: str) -> None:
    """Raise ValueError if the result for an image of noise differs from Pillow's."""
    noise = np.random.default_rng(0).integers(0, 256, (23, 37, 3), dtype=np.uint8)
    image, size, box = Image.fromarray(noise).convert(mode), (16, 11), (1.5, 0.0, 36.25, 23.0)
    expected = np.asarray(image.resize(size, Image.Resampling.BILINEAR, box=box)).astype(int)
    apart = np.abs(np.asarray(resize(image, size, box)) - expected).max()
    if apart > _LARGEST_DIFFERENCE:
        raise ValueError(f"its pixels differ from Pillow's by {apart} (values 0 to 255)")


def _cykooz() -> _Resize:
    import cykooz_resizer as library

    bilinear = library.ResizeAlg.convolution(library.FilterType.bilinear)
    # A resizer keeps its memory between images and must not be shared.
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
