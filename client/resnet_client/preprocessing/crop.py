"""Resize and crop an image of any orientation, decoded at any size."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image

from .config import PreprocessConfig
from .resampling import Box, resample

Size = tuple[float, float]

# The transpositions of EXIF orientations.
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_LEFT_IS_RIGHT = frozenset({2, 3, 6, 7})
_TOP_IS_BOTTOM = frozenset({3, 4, 7, 8})
_ROWS_ARE_COLUMNS = frozenset({5, 6, 7, 8})


def upright(image: Image.Image, orientation: int) -> Image.Image:
    """Apply an EXIF orientation; unknown ones leave the image unchanged."""
    return image.transpose(TURNS[orientation]) if orientation in TURNS else image


def crop_pixels(
    image: Image.Image, preprocess_config: PreprocessConfig, orientation: int = 1, size: Size | None = None
) -> npt.NDArray[np.uint8]:
    """Resize and centre-crop an image by the preprocessing config.

    Args:
        image: mode RGB or L, before orientation.
        preprocess_config: resize, crop and interpolation.
        orientation: EXIF orientation, 1 to 8.
        size: width and height in pixels of ``image``, with fractions where it was reduced; its own if None.

    Returns:
        uint8 array, shape (crop, crop, 3), HWC, RGB, 0 to 255, not normalised.
    """
    if (
        preprocess_config.interpolation == "nearest"
    ):  # which of two pixels is the nearest depends on the side counted from
        image, orientation = upright(image, orientation), 1
    # Only the crop is resampled, then oriented. The pixels are the same as after resizing the whole image, which for a
    # 1x10000 image would have 540 megapixels.
    box = _box(size or image.size, preprocess_config, orientation)
    square = (preprocess_config.crop, preprocess_config.crop)
    cut = upright(resample(image, square, preprocess_config.interpolation, box), orientation)
    return np.asarray(cut if cut.mode == "RGB" else cut.convert("RGB"))


def _box(size: Size, preprocess_config: PreprocessConfig, orientation: int) -> Box:
    """Left, top, right and bottom of the crop in the image before orientation."""
    is_turned = orientation in _ROWS_ARE_COLUMNS
    width, height = (size[1], size[0]) if is_turned else size
    if width <= height:
        new_width, new_height = preprocess_config.resize, int(preprocess_config.resize * height / width)
    else:
        new_width, new_height = int(preprocess_config.resize * width / height), preprocess_config.resize
    left, right = _span(width, new_width, preprocess_config.crop, is_mirrored=orientation in _LEFT_IS_RIGHT)
    top, bottom = _span(height, new_height, preprocess_config.crop, is_mirrored=orientation in _TOP_IS_BOTTOM)
    return (top, left, bottom, right) if is_turned else (left, top, right, bottom)


def _span(length: float, new_length: int, crop: int, *, is_mirrored: bool) -> tuple[float, float]:
    """Return where the crop of a side begins and ends, before the side is resized."""
    scale = length / new_length
    first = round((new_length - crop) / 2.0)
    begin, end = first * scale, (first + crop) * scale
    return (max(0.0, length - end), length - begin) if is_mirrored else (begin, end)
