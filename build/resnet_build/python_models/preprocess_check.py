"""Triton's Python model `preprocess_check`: checks encoded images before DALI gets them.

In DALI's backend an invalid image fails all requests of its batch, and the queue has no limit. So this model refuses
the same images as `preprocess`, from which it derives, request by request, with the same messages. It forwards RGB
JPEGs without their metadata except the orientation, which DALI applies. All other images it prepares as `preprocess`
does, and forwards as PPM with a margin, which DALI crops off. So a request stays small, whatever its images decode to.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import numpy.typing as npt
import preprocessing
from PIL import Image
from preprocess import TritonPythonModel as Preprocess

_END_OF_JPEG = b"\xff\xd9"
_EXIF_MARKER = b"\xff\xe1"
_ORIENTATION, _UPRIGHT = 274, 1
# A JPEG that DALI decodes takes 48 MiB of the GPU's memory at most.
_MOST_PIXELS = 16 << 20
# Of all images of a request, which are padded to the length of the longest.
_MOST_BYTES = 64 << 20


class TritonPythonModel(Preprocess):
    """Answers with UINT8 of shape (N, longest image), padded with zeros: decoders stop at the end of an image."""

    output = "ENCODED"
    labels: ClassVar[dict[str, str]] = {"model": "preprocess_check"}

    def prepared(self, encoded: bytes, images: int) -> npt.NDArray[np.uint8]:
        """Return an image file that DALI turns into the pixels of `preprocess`."""
        with preprocessing.opened(encoded, self._limits) as (image, checked):
            is_plain = checked.format == "JPEG" and image.mode == "RGB" and checked.data.endswith(_END_OF_JPEG)
            is_small = image.width * image.height <= _MOST_PIXELS and len(checked.data) * images <= _MOST_BYTES
            orientation = preprocessing.orientation(image)
        if is_plain and is_small:
            file = _with_orientation(checked.data, orientation)
        else:
            file = _with_margin(super().prepared(encoded, images), self._preprocess_config.resize)
        return np.frombuffer(file, np.uint8)

    def batch(self, rows: list[npt.NDArray[np.uint8]]) -> npt.NDArray[np.uint8]:
        """Return one row per image."""
        padded = np.zeros((len(rows), max(map(len, rows))), dtype=np.uint8)
        for whole, row in zip(padded, rows, strict=True):
            whole[: len(row)] = row
        return padded


def _with_orientation(jpeg: bytes, orientation: int) -> bytes:
    """Add EXIF metadata with the orientation alone, right after the JPEG's first marker."""
    if orientation == _UPRIGHT:
        return jpeg
    exif = Image.Exif()
    exif[_ORIENTATION] = orientation
    segment = exif.tobytes()
    return jpeg[:2] + _EXIF_MARKER + (len(segment) + 2).to_bytes(2, "big") + segment + jpeg[2:]


def _with_margin(pixels: npt.NDArray[np.uint8], side: int) -> bytes:
    """Return a PPM with the pixels, shape (crop, crop, 3), where DALI crops a square image of this side."""
    crop = len(pixels)
    first = round((side - crop) / 2)
    whole = np.zeros((side, side, 3), np.uint8)
    whole[first : first + crop, first : first + crop] = pixels
    return b"P6 %d %d 255\n" % (side, side) + whole.tobytes()
