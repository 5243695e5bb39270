"""From one encoded photo to the pixels the network was trained on."""

from __future__ import annotations

import functools
import io
from collections.abc import Callable
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from . import containers, tiff
from .limits import Limits, PhotoError, Room
from .recipe import INTERPOLATIONS, Recipe

T = TypeVar("T")

_DEFAULTS = Limits()
_ORIENTATION = 274
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_LONGEST_REASON = 200

# One for the whole process, because all who decode in it share its memory.
_room = Room()


def prepare(photo: bytes, recipe: Recipe, limits: Limits = _DEFAULTS) -> npt.NDArray[np.uint8]:
    """Decode a photo and cut the recipe's pixels from it: :func:`decode`, then :func:`crop_pixels`.

    Waits while other threads decode, if all their pixels together would be more than ``limits`` allows one photo.
    """
    return _decoded(photo, limits, functools.partial(crop_pixels, recipe=recipe))


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
    return _decoded(photo, limits, Image.Image.copy)


def _decoded(photo: bytes, limits: Limits, use: Callable[[Image.Image], T]) -> T:
    """Hand the upright RGB picture to ``use`` while there is room for it, and return what that returns."""
    limits.check_bytes(len(photo))
    picture = containers.read(photo, limits)
    try:
        with Image.open(io.BytesIO(picture.data), formats=(picture.format,)) as image:
            limits.check_frames(getattr(image, "n_frames", 1))
            limits.check_pixels(*image.size)
            with _room.take(image.width * image.height, limits):
                image.load()
                # Only AVIF has EXIF left here: what Pillow makes of the file's own rotation.
                turned = picture.orientation if picture.format != "AVIF" else tiff.orientation(_exif_of(image))
                return use(_rgb(image, turned))
    except (PhotoError, MemoryError):
        raise
    except UnidentifiedImageError as exc:  # whose own sentence holds an address in memory
        raise PhotoError(f"the photo is damaged or truncated: the header of this {picture.format} is wrong") from exc
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as exc:
        raise PhotoError(f"the photo has too many pixels, more than the {limits.max_pixels} allowed: {exc}") from exc
    except Exception as exc:  # Pillow's decoders raise many types on damaged files
        raise PhotoError(f"the photo is damaged or truncated: {_reason(exc)}") from exc


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
    return _rgb(image, orientation)


def _rgb(image: Image.Image, orientation: int) -> Image.Image:
    if image.mode in ("I", "F"):
        raise PhotoError("the photo has 32-bit samples of unknown range; save it with 8 or 16 bits per channel")
    if image.mode.startswith("I;16"):
        high = np.asarray(image).astype(np.uint16) >> 8
        image = Image.fromarray(high.astype(np.uint8))
    if image.mode == "P" and "transparency" in image.info:
        image = image.copy()
        del image.info["transparency"]  # dropped anyway; Pillow would warn of it
    if image.mode != "RGB":
        image = image.convert("RGB")
    return image.transpose(_TURNS[orientation]) if orientation in _TURNS else image


def crop_pixels(image: Image.Image, recipe: Recipe) -> npt.NDArray[np.uint8]:
    """Resize and centre-crop an RGB picture by the recipe.

    Returns:
        uint8 array, shape (crop, crop, 3), HWC, RGB, 0 to 255, not normalised.
    """
    width, height = image.size
    if width <= height:
        new_width, new_height = recipe.resize, int(recipe.resize * height / width)
    else:
        new_width, new_height = int(recipe.resize * width / height), recipe.resize
    # Only the crop is resampled: the same pixels as resizing everything and then cropping, without the
    # 540 megapixels that a 1x10000 photo would become on the way.
    x_scale, y_scale = width / new_width, height / new_height
    left = round((new_width - recipe.crop) / 2.0)
    top = round((new_height - recipe.crop) / 2.0)
    box = (left * x_scale, top * y_scale, (left + recipe.crop) * x_scale, (top + recipe.crop) * y_scale)
    return np.asarray(image.resize((recipe.crop, recipe.crop), INTERPOLATIONS[recipe.interpolation], box=box))


def _exif_of(image: Image.Image) -> bytes:
    exif = image.info.get("exif", b"")
    return exif if isinstance(exif, bytes) else b""


def _reason(error: Exception) -> str:
    """What a decoder says, fit for one line of any log or protocol."""
    text = str(error) or type(error).__name__
    return text.encode("ascii", "backslashreplace").decode()[:_LONGEST_REASON]
