"""From one encoded photo to the pixels the network was trained on.

The one place that knows how: the served model `preprocess` imports this file from its version folder,
and the client ships it as `resnet_client._photo` for ``preprocessing="client"``. Only numpy and Pillow
are imported, because nothing else is promised inside Triton's Python backend.

The steps are those of torchvision's ``transforms.ImageClassification`` on a ``PIL.Image`` (resize the
short side, crop the centre), after two that torchvision leaves to its caller: the EXIF orientation is
applied and the colours become 8-bit RGB. Normalisation is part of the exported network.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import io
import json

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

_INTERPOLATIONS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}


# Formats in which photos come. All others, PostScript among them, are refused before a decoder sees them.
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "JPEG2000", "PPM")

# Pillow's own limit: above it, it warns of a decompression bomb.
MAX_PIXELS = 89_478_485


class PhotoError(ValueError):
    """The bytes are no photo that can be classified; the message names the cause."""


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How the weights want their photos prepared (torchvision: ``weights.transforms()``).

    Attributes:
        resize: length of the short side after resizing, in pixels, ≥ ``crop``.
        crop: side of the square cut from the centre, in pixels.
        interpolation: ``nearest``, ``bilinear`` or ``bicubic``; always antialiased.
    """

    resize: int
    crop: int
    interpolation: str = "bilinear"

    def __post_init__(self) -> None:
        if self.interpolation not in _INTERPOLATIONS:
            known = ", ".join(_INTERPOLATIONS)
            raise ValueError(f"unknown interpolation {self.interpolation!r}; known are {known}")
        if not 1 <= self.crop <= self.resize:
            raise ValueError(f"the crop ({self.crop}) must lie between 1 and the resize ({self.resize})")

    def to_json(self) -> str:
        """Canonical JSON: sorted keys, no blanks."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Recipe:
        """Read what :meth:`to_json` wrote.

        Raises:
            ValueError: the text is not such a recipe.
        """
        try:
            return cls(**json.loads(text))
        except TypeError as exc:
            raise ValueError(f"not a preprocessing recipe: {text!r}") from exc

    @property
    def sha256(self) -> str:
        """Hex SHA-256 of :meth:`to_json`; equal hashes mean equal preprocessing."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()


def decode(photo: bytes, *, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Decode an encoded photo (JPEG, PNG, WebP, …) completely.

    Args:
        photo: the file's bytes.
        max_pixels: photos with more pixels are refused before they are decoded.

    Returns:
        The upright picture, mode RGB.

    Raises:
        PhotoError: empty, not a photo, truncated, or too large.
    """
    if not photo:
        raise PhotoError("the photo is empty (0 bytes)")
    try:
        with Image.open(io.BytesIO(photo), formats=_known_formats()) as image:
            _refuse_too_large(image, max_pixels)
            image.load()
            return to_rgb(image)
    except PhotoError:
        raise
    except UnidentifiedImageError as exc:
        raise PhotoError(f"the {len(photo)} bytes are not a photo in a known format (JPEG, PNG, WebP, …)") from exc
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as exc:
        raise PhotoError(f"the photo has too many pixels: {exc}") from exc
    except Exception as exc:  # Pillow's decoders raise many types on damaged files
        raise PhotoError(f"the photo is damaged or truncated: {exc}") from exc


@functools.cache
def _known_formats() -> tuple[str, ...]:
    """Return those of our formats that this Pillow was built with."""
    Image.init()
    return tuple(name for name in _FORMATS if name in Image.OPEN)


def _refuse_too_large(image: Image.Image, max_pixels: int) -> None:
    if image.width * image.height > max_pixels:
        size = f"{image.width}x{image.height}"
        raise PhotoError(f"the photo has {size} pixels, more than the {max_pixels} allowed")


def to_rgb(image: Image.Image) -> Image.Image:
    """Apply the EXIF orientation and convert to 8-bit RGB.

    16-bit greys are scaled to 8 bits, where Pillow's own conversion would clip them. Transparency is
    dropped, as torchvision's loader does.

    Raises:
        PhotoError: 32-bit or floating-point samples, whose range only their author knows.
    """
    upright = ImageOps.exif_transpose(image)
    if upright.mode.startswith("I;16"):
        high = np.asarray(upright).astype(np.uint16) >> 8
        upright = Image.fromarray(high.astype(np.uint8))
    if upright.mode in ("I", "F"):
        raise PhotoError("the photo has 32-bit samples of unknown range; save it with 8 or 16 bits per channel")
    return upright if upright.mode == "RGB" else upright.convert("RGB")


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
    return np.asarray(image.resize((recipe.crop, recipe.crop), _INTERPOLATIONS[recipe.interpolation], box=box))


def prepare(photo: bytes, recipe: Recipe, *, max_pixels: int = MAX_PIXELS) -> npt.NDArray[np.uint8]:
    """Decode a photo and cut the recipe's pixels from it: :func:`decode`, then :func:`crop_pixels`."""
    return crop_pixels(decode(photo, max_pixels=max_pixels), recipe)
