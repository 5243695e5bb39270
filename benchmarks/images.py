"""The images that are sent: reproducible JPEGs, made from images of installed packages."""

from __future__ import annotations

import io

import numpy as np
import numpy.typing as npt
from PIL import Image
from resnet_client import Client, example_images

# The usual size of an image in ImageNet.
STANDARD_SIZE = (500, 375)
_ASPECT = 4 / 3
_SMALLEST_AREA = 0.4
_QUALITY = 90
_SEED = 20260101
# Enlarged images are smooth and decode too fast; images of cameras have sensor noise.
_NOISE_SIGMA = 3.0
_NOISE_TILE = 512


def standard(count: int = 32) -> list[bytes]:
    """Make JPEGs of 500×375 pixels, all different: seeded crops of the shipped images, some of them mirrored."""
    originals = _originals()
    rng = np.random.default_rng(_SEED)
    return [_encoded(_crop(originals[n % len(originals)], rng).resize(STANDARD_SIZE)) for n in range(count)]


def of_megapixels(megapixels: float, *, progressive: bool) -> list[bytes]:
    """Make two JPEGs of one size, aspect 4:3, with the noise of a sensor."""
    rng = np.random.default_rng(_SEED)
    height = round((megapixels * 1e6 / _ASPECT) ** 0.5)
    size = (round(height * _ASPECT), height)
    crops = (_crop(original, rng) for original in _originals()[:2])
    return [_encoded(_noisy(crop.resize(size, Image.Resampling.BICUBIC), rng), progressive) for crop in crops]


def random_pixels(count: int, size: int) -> npt.NDArray[np.uint8]:
    """Make prepared pixels of shape (count, size, size, 3), for a network whose results do not matter."""
    return np.random.default_rng(0).integers(0, 256, (count, size, size, 3), np.uint8)


def pixels_of(client: Client, model: str, count: int) -> npt.NDArray[np.uint8]:
    """Make prepared pixels of the size that a served network takes, shape (count, size, size, 3)."""
    (pixels,) = client.metadata(model=model)["model"]["inputs"]
    return random_pixels(count, pixels["shape"][-2])


def _originals() -> list[Image.Image]:
    found = example_images.everyday()
    if not found:
        raise SystemExit(f"no images are installed: {example_images.INSTALL}")
    return [Image.open(path).convert("RGB") for path in found]


def _crop(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    area = image.width * image.height * rng.uniform(_SMALLEST_AREA, 1)
    width = int(min(image.width, image.height * _ASPECT, (area * _ASPECT) ** 0.5))
    height = int(width / _ASPECT)
    left, top = rng.integers(0, image.width - width + 1), rng.integers(0, image.height - height + 1)
    crop = image.crop((int(left), int(top), int(left) + width, int(top) + height))
    return crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if rng.integers(2) else crop


def _noisy(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    pixels = np.asarray(image).astype(np.int16)
    tile = rng.normal(0, _NOISE_SIGMA, (_NOISE_TILE, _NOISE_TILE, 3)).round().astype(np.int16)
    rows, columns = (-(-length // _NOISE_TILE) for length in pixels.shape[:2])
    noise = np.tile(tile, (rows, columns, 1))[: pixels.shape[0], : pixels.shape[1]]
    return Image.fromarray((pixels + noise).clip(0, 255).astype(np.uint8))


def _encoded(image: Image.Image, progressive: bool = False) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=_QUALITY, progressive=progressive)
    return buffer.getvalue()
