"""The pictures that both versions are asked: those of a folder, or crops of photos that packages ship."""

from __future__ import annotations

import functools
import importlib.util
import random
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from resnet_serve.rollout.errors import RolloutError

# scikit-image's are CC0 or public domain, scikit-learn's CC BY 2.0.
_SHIPPED = {
    "skimage": ("data/chelsea.png", "data/coffee.png", "data/rocket.jpg", "data/astronaut.png"),
    "sklearn": ("datasets/images/flower.jpg", "datasets/images/china.jpg"),
}
_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif"}
_SEED = 20
_SMALLEST_ZOOM = 0.6

Picture = npt.NDArray[np.uint8]


@functools.cache
def pictures(folder: Path | None, *, side: int, count: int) -> list[Picture]:
    """Prepare pictures, always the same ones.

    Args:
        folder: where photos are, in it and below; None for crops of the shipped ones.
        side: length of the short side of each picture, in pixels: that before the recipe's crop, so that
            client and server have nothing to resize and their time is the network's.
        count: how many; fewer if the folder holds fewer.

    Returns:
        uint8 arrays, shape (height, width, 3), RGB.

    Raises:
        RolloutError: there are no photos, or one cannot be read.
    """
    if folder is None:
        return _crops(side, count)
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in _SUFFIXES and path.is_file())
    if not found:
        raise RolloutError(f"there is no photo in {folder}; --images names a folder with some")
    # Evenly over the whole folder: classes often lie in folders of their own.
    chosen = [found[index * len(found) // count] for index in range(count)] if len(found) > count else found
    return [_shrunk(_opened(path), side) for path in chosen]


def _crops(side: int, count: int) -> list[Picture]:
    images = [_opened(path) for path in _shipped()]
    if not images:
        raise RolloutError(
            "no photos are installed here: name a folder with some (--images), or pip install 'resnet50-triton[photos]'"
        )
    chance = random.Random(_SEED)  # noqa: S311  # the same crops every time
    return [_shrunk(_cropped(images[number % len(images)], chance), side) for number in range(count)]


def _shipped() -> list[Path]:
    """Find the photos of the installed packages, without importing these."""
    found = []
    for package, names in _SHIPPED.items():
        spec = importlib.util.find_spec(package)
        for folder in (spec.submodule_search_locations or []) if spec else []:
            found += [path for name in names if (path := Path(folder, name)).exists()]
    return found


def _opened(path: Path) -> Image.Image:
    try:
        with Image.open(path) as image:
            return ImageOps.exif_transpose(image).convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as exc:
        raise RolloutError(f"the photo {path} cannot be read: {exc}") from exc


def _cropped(image: Image.Image, chance: random.Random) -> Image.Image:
    zoom = chance.uniform(_SMALLEST_ZOOM, 1)
    width, height = int(image.width * zoom), int(image.height * zoom)
    left, top = chance.randint(0, image.width - width), chance.randint(0, image.height - height)
    image = image.crop((left, top, left + width, top + height))
    return ImageOps.mirror(image) if chance.random() < 1 / 2 else image


def _shrunk(image: Image.Image, side: int) -> Picture:
    scale = side / min(image.size)
    size = (max(side, round(image.width * scale)), max(side, round(image.height * scale)))
    return np.asarray(image.resize(size, Image.Resampling.BILINEAR))
