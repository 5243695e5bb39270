"""Reduce a TIFF to its first page.

Pillow and libtiff read tags, strips and tiles in the number and size that the file declares.
"""

from __future__ import annotations

import math
import struct

from .limits import InvalidImageError, Limits

_SIDES = (256, 257, 322, 323)  # width and height, of the image and of its tiles
_BITS, _PHOTOMETRIC, _BLACK_IS_ZERO = 258, 262, (1,)
_DEPTHS = frozenset({1, 2, 4, 8, 16, 32})
_COMPRESSION, _STRIP_BYTES, _TILE_BYTES = 259, 279, 325
_UNCOMPRESSED = (1,)
# Tags that describe the image; EXIF, XMP, colour profiles, sub-directories and private tags are removed.
# many-tags.tiff: libtiff loads the value of each tag, even if all share the same bytes.
_IMAGE_TAGS = frozenset(
    {254, 256, 257, 258, 259, 262, 266, 273, 274, 277, 278, 279, 284, 317, 320, 322, 323, 324, 325, 332, 338, 339}
) | {347, 529, 530, 531, 532}
_BYTES = frozenset({1, 2, 7})  # types BYTE, ASCII, UNDEFINED
_NUMBERS = {3: "H", 4: "I", 5: "Q"}  # types SHORT, LONG, RATIONAL; of the last only the size is used
_INSIDE = 4  # values of up to 4 bytes are stored in the entry
# tiny-tiles.tiff, strips-beyond-the-end.tiff: each value costs Pillow up to 5 µs and 300 bytes.
_MAX_VALUES = 200_000


def first_page(data: bytes, limits: Limits) -> bytes:
    """Return a TIFF with only the first page and the tags that describe the image.

    Raises:
        InvalidImageError: damaged, or above a limit.
        struct.error: it ends too early.
    """
    order = "<" if data.startswith(b"II") else ">"
    (start,) = struct.unpack_from(order + "I", data, 4)
    limits.check_frames(_count_pages(data, order, start, limits))
    (count,) = struct.unpack_from(order + "H", data, start)
    kept: dict[int, bytes] = {}
    numbers: dict[int, tuple[int, ...]] = {}
    for place in range(start + 2, start + 2 + 12 * count, 12):
        tag, kind, values, offset = struct.unpack_from(order + "HHII", data, place)
        if tag in kept or tag not in _IMAGE_TAGS or not values or kind not in _BYTES | _NUMBERS.keys():
            continue
        kept[tag] = data[place : place + 12]
        if kind in _NUMBERS:
            if values > _MAX_VALUES:
                raise InvalidImageError(f"the image is damaged: its TIFF tag {tag} has {values} values")
            form = f"{order}{values}{_NUMBERS[kind]}"
            is_inside = struct.calcsize(form) <= _INSIDE
            numbers[tag] = struct.unpack_from(form, data, place + 8 if is_inside else offset)
        if tag in _SIDES and (values > 1 or kind not in _NUMBERS):
            raise InvalidImageError(f"the image is damaged: its TIFF tag {tag} must hold exactly one number")
    _check(numbers, order, len(data), limits)
    # Overwrites the old directory, which is at least as long; no page follows.
    directory = struct.pack(order + "H", len(kept)) + b"".join(kept.values()) + bytes(4)
    return data[:start] + directory + data[start + len(directory) :]


def _check(numbers: dict[int, tuple[int, ...]], order: str, size: int, limits: Limits) -> None:
    bits = numbers.get(_BITS, (1,))
    is_grey_12 = bits == (12,) and order == "<" and numbers.get(_PHOTOMETRIC) == _BLACK_IS_ZERO
    if not (_DEPTHS.issuperset(bits) or is_grey_12):
        raise InvalidImageError(f"the image has {max(bits)}-bit samples; save it with 8 or 16 bits per channel")
    width, height, tile_width, tile_height = (max(1, numbers.get(tag, (1,))[0]) for tag in _SIDES)
    # tall-tiles.tiff: libtiff decodes whole tiles, even if only a part is in the image.
    limits.check_pixels(math.ceil(width / tile_width) * tile_width, math.ceil(height / tile_height) * tile_height)
    # strips-of-nothing.tiff: libtiff, which decodes compressed images, reads the same bytes for each strip.
    claimed = sum(numbers.get(_STRIP_BYTES, ())) + sum(numbers.get(_TILE_BYTES, ()))
    if claimed > size and numbers.get(_COMPRESSION, _UNCOMPRESSED) != _UNCOMPRESSED:
        raise InvalidImageError(
            f"the image is damaged: its strips or tiles claim {claimed} bytes, but the file has {size}"
        )


def _count_pages(data: bytes, order: str, start: int, limits: Limits) -> int:
    """Count pages up to the limit: for too-many-pages.tiff, Pillow compares each page with each other."""
    seen: set[int] = set()
    while start and start not in seen and len(seen) <= limits.max_frames and start + 2 <= len(data):
        seen.add(start)
        after = start + 2 + 12 * struct.unpack_from(order + "H", data, start)[0]
        # A truncated directory ends the chain: only the first page is decoded.
        start = struct.unpack_from(order + "I", data, after)[0] if after + 4 <= len(data) else 0
    return len(seen)
