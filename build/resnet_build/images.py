"""Real images for validation and calibration: from a folder, or those that scikit-image and scikit-learn bundle."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from resnet_client import example_images
from resnet_client.preprocessing import InvalidImageError, PreprocessConfig, decode, prepare

from resnet_build import BuildError, UsageError
from resnet_build.network import Pixels

# More images do not change the ranges, and each costs two executions of the network.
CALIBRATION_COUNT = 64
EVALUATION_COUNT = 64
# The bound is decided on one block or several.
_BLOCKS, _BLOCK = 5, 100
_FEWEST = 8
_SEED = 20150512
_SMALLEST_AREA = 0.15
# As much as preprocessing leaves of an image.
_LARGE_AREA = 0.5
_LARGEST_ASPECT = 4 / 3
_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp"})


def sample(count: int, size: int) -> Pixels:
    """Return different crops of the images that packages bundle, the same ones every time.

    Returns:
        uint8, shape (count, size, size, 3), RGB.

    Raises:
        BuildError: neither of the packages is installed.
    """
    paths = (*example_images.everyday(), *example_images.unusual())
    if not paths:
        raise BuildError(f"validation and calibration need real images: {example_images.INSTALL}")
    images = [decode(path.read_bytes()) for path in paths]
    rng = np.random.default_rng(_SEED)
    return np.stack([_random_crop(images[index % len(images)], size, rng) for index in range(count)])


def _random_crop(
    image: Image.Image, size: int, rng: np.random.Generator, smallest_area: float = _SMALLEST_AREA
) -> Pixels:
    """Crop as training does for augmentation: random area and aspect ratio, mirrored half of the time."""
    width, height = image.size
    area = width * height * rng.uniform(smallest_area, 1)
    aspect = np.exp(rng.uniform(-np.log(_LARGEST_ASPECT), np.log(_LARGEST_ASPECT)))
    w, h = min(width, int((area * aspect) ** 0.5)), min(height, int((area / aspect) ** 0.5))
    x, y = rng.uniform(0, width - w), rng.uniform(0, height - h)
    part = image.resize((size, size), Image.Resampling.BILINEAR, box=(x, y, x + w, y + h))
    pixels: Pixels = np.asarray(part)
    return pixels[:, ::-1] if rng.random() < 0.5 else pixels  # noqa: PLR2004  # half of the time


@dataclasses.dataclass(frozen=True)
class CalibrationSet:
    """Preprocessed images, uint8, each array of shape (N, size, size, 3), RGB.

    Attributes:
        source: where they come from, for the manifest and the terminal.
        calibration: the ranges of the activations are measured on these.
        evaluation: a variant is compared with the FP32 network on these: other images of a folder, or other crops of
            the bundled images.
        files: images for further crops, none of a folder's used for calibration.
    """

    source: str
    calibration: Pixels
    evaluation: Pixels
    files: Sequence[Path]

    @property
    def sha256(self) -> str:
        """Hex SHA-256 of all pixels."""
        return hashlib.sha256(self.calibration.tobytes() + self.evaluation.tobytes()).hexdigest()

    def blocks(self) -> Iterator[Pixels]:
        """Yield blocks of different crops, of at least half of an image, the same ones every time."""
        decoded = functools.lru_cache(maxsize=16)(lambda path: decode(path.read_bytes()))
        rng = np.random.default_rng(_SEED)
        files, size = itertools.cycle(self.files), self.evaluation.shape[1]
        for _ in range(_BLOCKS):
            some = itertools.islice(files, _BLOCK)
            yield np.stack([_random_crop(decoded(path), size, rng, _LARGE_AREA) for path in some])


def calibration_set(folder: Path | None, preprocess_config: PreprocessConfig) -> CalibrationSet:
    """Preprocess the images of a folder, or crops of the images that packages bundle.

    Args:
        folder: it and its subfolders are searched for images; None for the bundled images.
        preprocess_config: how images are preprocessed for this network.

    Raises:
        BuildError: there are too few images, or one cannot be read.
    """
    if folder is not None:
        return _of_folder(folder, preprocess_config)
    crops = sample(CALIBRATION_COUNT + EVALUATION_COUNT, preprocess_config.crop)
    source = "crops of the images that scikit-image and scikit-learn bundle"
    return CalibrationSet(source, crops[:CALIBRATION_COUNT], crops[CALIBRATION_COUNT:], example_images.everyday())


def calibration_files(folder: Path) -> list[Path]:
    """Return the images of a folder and of those below it, in order.

    Raises:
        UsageError: the folder is missing, or holds too few.
    """
    if not folder.is_dir():
        raise UsageError(f"the folder {folder} of --calibration-images does not exist")
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in _SUFFIXES)
    if len(paths) < _FEWEST:
        raise UsageError(
            f"{folder} contains {len(paths)} images ({', '.join(sorted(_SUFFIXES))}); at least {_FEWEST} are needed, "
            "half of them for calibration and half for evaluation; 100 or more, of all classes, are better"
        )
    return paths


def _of_folder(folder: Path, preprocess_config: PreprocessConfig) -> CalibrationSet:
    paths = calibration_files(folder)
    # Spread over the whole folder, which is often ordered by class.
    step = max(1.0, len(paths) / (CALIBRATION_COUNT + EVALUATION_COUNT))
    chosen = [paths[int(index * step)] for index in range(int(len(paths) / step))]
    pixels = np.stack([prepared(path, preprocess_config, "calibration") for path in chosen])
    return CalibrationSet(f"{len(chosen)} images of {folder.resolve()}", pixels[::2], pixels[1::2], chosen[1::2])


def prepared(path: Path, preprocess_config: PreprocessConfig, purpose: str) -> Pixels:
    """Preprocess one file as the server does; uint8, shape (crop, crop, 3), RGB; the message names the purpose.

    Raises:
        BuildError: it cannot be read.
    """
    try:
        return prepare(path.read_bytes(), preprocess_config)
    except (OSError, InvalidImageError) as exc:
        raise BuildError(f"the {purpose} image {path} cannot be used: {exc}") from exc
