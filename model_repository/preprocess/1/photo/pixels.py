"""From one encoded photo to the pixels the network was trained on."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from . import containers, tiff
from .crop import Size, crop_pixels, upright
from .limits import Limits, PhotoError, Room
from .recipe import Recipe

T = TypeVar("T")

_DEFAULTS = Limits()
_ORIENTATION = 274
_LONGEST_REASON = 200

# One for the whole process, because all who decode in it share its memory.
_room = Room()
if hasattr(os, "register_at_fork"):  # Windows has no forks
    os.register_at_fork(after_in_child=_room.clear)


def prepare(photo: bytes, recipe: Recipe, limits: Limits = _DEFAULTS) -> npt.NDArray[np.uint8]:
    """Decode a photo, no larger than the recipe needs it, and cut the recipe's pixels from it.

    Waits while other threads decode, if all their pixels together would be more than ``limits`` allows one photo.

    Returns:
        uint8 array, shape (crop, crop, 3), HWC, RGB, 0 to 255, not normalised.

    Raises:
        PhotoError: empty, not a photo, damaged, truncated, or above a limit.
    """

    def cut(image: Image.Image, orientation: int, size: Size) -> npt.NDArray[np.uint8]:
        return crop_pixels(_rgb_or_grey(image), recipe, orientation, size)

    return _decoded(photo, limits, cut, recipe.least_side)


def decode(photo: bytes, limits: Limits = _DEFAULTS) -> Image.Image:
    """Decode an encoded photo (JPEG, PNG, WebP, …) completely.

    Args:
        photo: the file's bytes.
        limits: what is refused, before it is decoded.

    Returns:
        The upright picture, mode RGB.

    Raises:
        PhotoError: empty, not a photo, damaged, truncated, or above a limit.
    """

    def whole(image: Image.Image, orientation: int, _: Size) -> Image.Image:
        return upright(_rgb_or_grey(image).convert("RGB"), orientation)

    return _decoded(photo, limits, whole)


def _decoded(
    photo: bytes, limits: Limits, use: Callable[[Image.Image, int, Size], T], least_side: int | None = None
) -> T:
    """Hand the picture, its orientation and its size to ``use`` while there is room for it; return what that returns.

    A JPEG comes reduced, as long as its short side has ``least_side`` pixels.
    """
    limits.check_bytes(len(photo))
    picture = containers.read(photo, limits)
    try:
        with Image.open(io.BytesIO(picture.data), formats=(picture.format,)) as image:
            limits.check_frames(getattr(image, "n_frames", 1))
            limits.check_pixels(*image.size)
            whole, size = image.width * image.height, _reduce(image, least_side)
            with _room.take(whole if picture.is_buffered else image.width * image.height, limits):
                image.load()
                # Only AVIF has EXIF left here: what Pillow makes of the file's own rotation.
                turned = picture.orientation if picture.format != "AVIF" else tiff.orientation(_exif_of(image))
                return use(image, turned, size)
    except (PhotoError, MemoryError):
        raise
    except UnidentifiedImageError as exc:  # whose own sentence holds an address in memory
        raise PhotoError(f"the photo is damaged or truncated: the header of this {picture.format} is wrong") from exc
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as exc:
        raise PhotoError(f"the photo has too many pixels, more than the {limits.max_pixels} allowed: {exc}") from exc
    except Exception as exc:  # Pillow's decoders raise many types on damaged files
        raise PhotoError(f"the photo is damaged or truncated: {_reason(exc)}") from exc


def _reduce(image: Image.Image, least_side: int | None) -> Size:
    """Have a JPEG decoded at a half, quarter or eighth of its size, if that leaves enough; return the size."""
    drafted = image.draft(None, (least_side, least_side)) if least_side else None
    # A fraction where the last column or row is less than a whole pixel.
    return (drafted[1][2], drafted[1][3]) if drafted else image.size


def to_rgb(image: Image.Image) -> Image.Image:
    """Apply the EXIF orientation of a picture that a program made or opened, and convert to 8-bit RGB.

    16-bit greys are scaled to 8 bits, where Pillow's own conversion would clip them. Transparency is
    dropped, as torchvision's loader does.

    Raises:
        PhotoError: 32-bit or floating-point samples, whose range only their author knows.
    """
    image.load()
    try:
        orientation = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # noqa: BLE001  # damaged EXIF raises many types; everybody shows such a picture as it lies
        orientation = 1
    image = _rgb_or_grey(image)
    return upright(image if image.mode == "RGB" else image.convert("RGB"), orientation)


def _rgb_or_grey(image: Image.Image) -> Image.Image:
    """Convert to 8-bit RGB, or leave an 8-bit grey: three equal channels can be made of that later."""
    if image.mode in ("I", "F"):
        raise PhotoError("the photo has 32-bit samples of unknown range; save it with 8 or 16 bits per channel")
    if image.mode.startswith("I;16"):
        high = np.asarray(image).astype(np.uint16) >> 8
        return Image.fromarray(high.astype(np.uint8))
    if image.mode == "P" and "transparency" in image.info:
        image = image.copy()
        del image.info["transparency"]  # dropped anyway; Pillow would warn of it
    return image if image.mode in ("RGB", "L") else image.convert("RGB")


def _exif_of(image: Image.Image) -> bytes:
    exif = image.info.get("exif", b"")
    return exif if isinstance(exif, bytes) else b""


def _reason(error: Exception) -> str:
    """What a decoder says, fit for one line of any log or protocol."""
    text = str(error) or type(error).__name__
    return text.encode("ascii", "backslashreplace").decode()[:_LONGEST_REASON]
