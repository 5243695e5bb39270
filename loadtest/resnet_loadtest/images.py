"""The images that are sent, read into memory before the clock starts."""

from __future__ import annotations

import dataclasses
import io
import itertools
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image
from resnet_client import example_images, images

from resnet_loadtest.errors import LoadTestError

if TYPE_CHECKING:
    import numpy.typing as npt

_MAX_IMAGES = 1000
_SIDE = 256
_JPEG_QUALITY = 90


@dataclasses.dataclass(frozen=True)
class Images:
    """Images in memory.

    Attributes:
        encoded: each as its file's bytes.
        decoded: each as a uint8 array, shape (height, width, 3), RGB, short side 256 pixels.
    """

    encoded: tuple[bytes, ...]
    decoded: tuple[npt.NDArray[np.uint8], ...]


def load_images(folder: Path | None, *, decode: bool = False) -> Images:
    """Read all images of a folder and its subfolders, or else those that installed packages ship.

    Args:
        folder: where to look; None for the shipped ones, as JPEG.
        decode: also decode them, for requests that send pixels.

    Raises:
        LoadTestError: there are none.
    """
    encoded = _of_folder(folder) if folder else [_as_jpeg(path.read_bytes()) for path in example_images.everyday()]
    if not encoded:
        where = f"in {folder}" if folder else f"installed: {example_images.INSTALL}"
        raise LoadTestError(f"there are no images {where}; --images takes a folder with some")
    return Images(tuple(encoded), tuple(_pixels(image) for image in encoded) if decode else ())


def _of_folder(folder: Path) -> list[bytes]:
    return [path.read_bytes() for path in itertools.islice(images.find(folder), _MAX_IMAGES)]


def _as_jpeg(encoded: bytes) -> bytes:
    """Re-encode as a camera or a phone would; PNGs of the same images decode several times slower."""
    with Image.open(io.BytesIO(encoded)) as image:
        if image.format == "JPEG":
            return encoded
        buffer = io.BytesIO()
        image.convert("RGB").save(buffer, "JPEG", quality=_JPEG_QUALITY)
        return buffer.getvalue()


def _pixels(encoded: bytes) -> npt.NDArray[np.uint8]:
    with Image.open(io.BytesIO(encoded)) as image:
        small = image.convert("RGB")
        scale = _SIDE / min(small.size)
        size = (max(_SIDE, round(small.width * scale)), max(_SIDE, round(small.height * scale)))
        return np.asarray(small.resize(size))
