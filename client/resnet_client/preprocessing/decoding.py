"""Decode an encoded image and preprocess it to the pixels that the network takes."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFile, UnidentifiedImageError

from . import image_checks
from .config import PreprocessConfig
from .crop import TURNS, Size, crop_pixels, upright
from .limits import InvalidImageError, Limits, Room

_DEFAULTS = Limits()
_BITS, _ORIENTATION = 258, 274
_LONGEST_REASON = 200
# absurd-orientation.webp: Pillow takes 15 bytes and 0.2 µs for each byte of EXIF. A JPEG cannot have more.
_MAX_EXIF_BYTES = 65_535
# If each channel is stored separately, the parts of each channel cover the image.
_MAX_LAYERS = 6
_RUN_LENGTH_BMP = frozenset({1, 2})

# One for the whole process, because its threads share memory.
_room = Room()
if hasattr(os, "register_at_fork"):  # Windows has no forks
    os.register_at_fork(after_in_child=_room.clear)


def prepare(data: bytes, preprocess_config: PreprocessConfig, limits: Limits = _DEFAULTS) -> npt.NDArray[np.uint8]:
    """Decode an image at the smallest sufficient size, and resize and crop it.

    Waits while other threads decode, if all pixels together would exceed the limit of one image.

    Returns:
        uint8 array, shape (crop, crop, 3), HWC, RGB, 0 to 255, not normalised.

    Raises:
        InvalidImageError: empty, not an image, damaged, truncated, or above a limit.
    """
    with opened(data, limits) as (image, checked):
        size = _reduce(image, preprocess_config.least_side)
        with _taken(image, checked, limits):
            image.load()
            return crop_pixels(_rgb_or_grey(image), preprocess_config, orientation(image), size)


def decode(data: bytes, limits: Limits = _DEFAULTS) -> Image.Image:
    """Decode an encoded image (JPEG, PNG, WebP, …) completely.

    Args:
        data: the file's bytes.
        limits: checked before the image is decoded.

    Returns:
        The upright image, mode RGB.

    Raises:
        InvalidImageError: empty, not an image, damaged, truncated, or above a limit.
    """
    with opened(data, limits) as (image, checked), _taken(image, checked, limits):
        image.load()
        return upright(_rgb_or_grey(image).convert("RGB"), orientation(image))


@contextmanager
def opened(data: bytes, limits: Limits) -> Iterator[tuple[ImageFile.ImageFile, image_checks.Checked]]:
    """Open an image and check its limits, without decoding it.

    Raises:
        InvalidImageError: empty, not an image, damaged, or above a limit; also for Pillow's exceptions in the block.
    """
    limits.check_bytes(len(data))
    checked = image_checks.check(data, limits)
    try:
        with Image.open(io.BytesIO(checked.data), formats=(checked.format,)) as image:
            limits.check_frames(getattr(image, "n_frames", 1))
            limits.check_pixels(*image.size)
            _check_coding(image)
            image.info.update(checked.metadata)
            yield image, checked
    except (InvalidImageError, MemoryError):
        raise
    except UnidentifiedImageError as exc:  # its message contains a memory address
        raise InvalidImageError(f"the image is damaged or truncated: its {checked.format} header is wrong") from exc
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as exc:
        raise InvalidImageError(f"the image has more pixels than the {limits.max_pixels} allowed: {exc}") from exc
    except Exception as exc:  # Pillow's decoders raise many types on damaged files
        raise InvalidImageError(f"the image is damaged or truncated: {_reason(exc)}") from exc


def _check_coding(image: ImageFile.ImageFile) -> None:
    """Refuse images that Pillow decodes in Python, or whose parts it decodes repeatedly."""
    if image.format == "BMP" and image.info["compression"] in _RUN_LENGTH_BMP:  # run-length.bmp
        raise InvalidImageError("the image is a run-length-encoded BMP; save it without compression")
    extents = [tile.extents or (0, 0, 0, 0) for tile in image.tile]
    covered = sum((right - left) * (bottom - top) for left, top, right, bottom in extents)
    if covered > _MAX_LAYERS * image.width * image.height:  # strip-again-and-again.tiff
        raise InvalidImageError("the image is damaged: its strips or tiles overlap")


def _taken(image: Image.Image, checked: image_checks.Checked, limits: Limits) -> AbstractContextManager[None]:
    """Hold room for the image's pixels during the block."""
    return _room.take(max(image.width * image.height, checked.held_pixels), limits)


def _reduce(image: Image.Image, least_side: int | None) -> Size:
    """Decode a JPEG at a half, quarter or eighth of its size, if that is sufficient; return the size."""
    drafted = image.draft(None, (least_side, least_side)) if least_side else None
    # A fraction if the last column or row is less than a pixel.
    return (drafted[1][2], drafted[1][3]) if drafted else image.size


def to_rgb(image: Image.Image) -> Image.Image:
    """Apply the EXIF orientation of a ``PIL.Image`` and convert it to 8-bit RGB.

    16-bit greys are scaled to 8 bits; Pillow's conversion would clip them. Transparency is dropped, as in torchvision's
    loader.

    Raises:
        InvalidImageError: 32-bit or floating-point samples, whose range is unknown.
    """
    image.load()
    turned = orientation(image)
    image = _rgb_or_grey(image)
    return upright(image if image.mode == "RGB" else image.convert("RGB"), turned)


def orientation(image: Image.Image) -> int:
    """Return the EXIF orientation of a decoded image, 1 to 8; 1 if it has none."""
    try:
        if len(image.info.get("exif") or b"") > _MAX_EXIF_BYTES:
            return 1
        found = image.getexif().get(_ORIENTATION)
    except Exception:  # noqa: BLE001  # damaged EXIF raises many types; viewers ignore it
        return 1
    return int(found) if found in TURNS else 1


def _rgb_or_grey(image: Image.Image) -> Image.Image:
    """Convert to 8-bit RGB, or leave 8-bit grey, which is converted after the crop."""
    if image.mode in ("I", "F"):
        raise InvalidImageError("the image has 32-bit samples of unknown range; save it with 8 or 16 bits per channel")
    if image.mode.startswith("I;16"):
        is_12_bit = getattr(image, "tag_v2", {}).get(_BITS) == (12,)  # Pillow does not scale them to 16 bits
        high = np.asarray(image).astype(np.uint16) >> (4 if is_12_bit else 8)
        return Image.fromarray(high.astype(np.uint8))
    if image.mode == "P" and "transparency" in image.info:
        image = image.copy()
        del image.info["transparency"]  # it is dropped anyway; Pillow would warn
    return image if image.mode in ("RGB", "L") else image.convert("RGB")


def _reason(error: Exception) -> str:
    """A decoder's error message as one line of ASCII, of bounded length."""
    text = str(error) or type(error).__name__
    return text.encode("ascii", "backslashreplace").decode()[:_LONGEST_REASON]
