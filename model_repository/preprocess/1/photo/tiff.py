"""The directory of tags that TIFF files and EXIF blocks share, read without trust.

An entry is 12 bytes: tag, type, count, and a value or the place of its values. A hostile directory has tens
of thousands of entries that all point to the same megabytes, chains directories for ever, or claims tiles of
gigabytes: decoders that read what they are told run out of memory or time.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from typing import NamedTuple

from .limits import Limits, PhotoError

_ORIENTATION = 274
_MAX_ENTRIES = 1_000
# Bytes of one value of each type that pictures need: BYTE, ASCII, SHORT, LONG, RATIONAL, UNDEFINED.
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 7: 1}
_NUMBERS = {1: "B", 3: "H", 4: "I"}
_INLINE = 4

_WIDTH, _HEIGHT, _COMPRESSION, _SAMPLES, _ROWS, _PLANAR = 256, 257, 259, 277, 278, 284
_STRIPS, _TILES, _TILE_WIDTH, _TILE_HEIGHT = 273, 324, 322, 323
# Everything that describes the picture itself. All other tags (EXIF, XMP, colour profiles, sub-directories,
# private ones) never reach the decoder.
_PICTURE_TAGS = frozenset(
    {254, 256, 257, 258, 259, 262, 266, 273, 274, 277, 278, 279, 284, 317, 320, 322, 323, 324, 325, 332, 338, 339}
) | {347, 529, 530, 531, 532}
# None, LZW, JPEG, Deflate, PackBits, and Deflate's older number.
_COMPRESSIONS = frozenset({1, 5, 7, 8, 32773, 32946})


class _Entry(NamedTuple):
    """One tag: its 12 bytes, and where its values lie."""

    tag: int
    kind: int
    values: int
    place: int
    raw: bytes


def orientation(exif: bytes) -> int:
    """Return the EXIF orientation, 1 to 8; 1 where there is none that can be read."""
    block = exif.removeprefix(b"Exif\0\0").removeprefix(b"Exif\0\0")
    try:
        order, start = _header(block)
        for entry in _entries(block, order, start):
            if entry.tag == _ORIENTATION:
                value = _number(block, order, entry)
                return value if 1 <= value <= 8 else 1  # noqa: PLR2004  # the eight ways to hold a camera
    except (struct.error, PhotoError):
        pass  # who wrote the picture cannot be asked; everybody shows it as it lies
    return 1


def first_page(photo: bytes, limits: Limits) -> bytes:
    """Return a TIFF with the first page only, and of its tags only what describes the picture.

    Raises:
        PhotoError: damaged, compressed in a way that photos are not, too many pages, or tags that claim more
            than there is.
    """
    try:
        order, start = _header(photo)
        limits.check_frames(_count_pages(photo, order, start, limits))
        entries: dict[int, _Entry] = {}
        for entry in _entries(photo, order, start):
            if entry.tag in _PICTURE_TAGS and entry.kind in _SIZES and entry.values:
                entries.setdefault(entry.tag, entry)
        _check(photo, order, entries, limits)
    except struct.error as exc:
        raise PhotoError("the photo is damaged or truncated: its TIFF directory ends too early") from exc
    kept = b"".join(entry.raw for entry in sorted(entries.values()))
    # Written over the old directory, which is at least as long; the next page is at 0, that is, there is none.
    directory = struct.pack(order + "H", len(entries)) + kept + bytes(4)
    return photo[:start] + directory + photo[start + len(directory) :]


def _header(block: bytes) -> tuple[str, int]:
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(block[:4])
    if order is None:
        raise PhotoError("the photo is damaged: this is no TIFF directory")
    return order, struct.unpack_from(order + "I", block, 4)[0]


def _entries(block: bytes, order: str, start: int) -> Iterator[_Entry]:
    (count,) = struct.unpack_from(order + "H", block, start)
    if count > _MAX_ENTRIES:
        raise PhotoError(f"the photo has {count} TIFF tags, more than any photo needs")
    for place in range(start + 2, start + 2 + 12 * count, 12):
        tag, kind, values, offset = struct.unpack_from(order + "HHII", block, place)
        size = _SIZES.get(kind, 1) * values
        yield _Entry(tag, kind, values, place + 8 if size <= _INLINE else offset, block[place : place + 12])


def _number(block: bytes, order: str, entry: _Entry) -> int:
    if entry.kind not in _NUMBERS or entry.values != 1:
        raise PhotoError(f"the photo is damaged: its TIFF tag {entry.tag} is not one number")
    value: int = struct.unpack_from(order + _NUMBERS[entry.kind], block, entry.place)[0]
    return value


def _count_pages(photo: bytes, order: str, start: int, limits: Limits) -> int:
    seen: set[int] = set()
    while start and start not in seen and len(seen) <= limits.max_frames and start + 2 <= len(photo):
        seen.add(start)
        (count,) = struct.unpack_from(order + "H", photo, start)
        after = start + 2 + 12 * count
        # A page whose directory is cut off ends the chain: only the first is looked at.
        start = struct.unpack_from(order + "I", photo, after)[0] if after + 4 <= len(photo) else 0
    return len(seen)


def _check(photo: bytes, order: str, entries: dict[int, _Entry], limits: Limits) -> None:
    def number(tag: int, default: int) -> int:
        return _number(photo, order, entries[tag]) if tag in entries else default

    claimed = sum(_SIZES[entry.kind] * entry.values for entry in entries.values())
    if claimed > len(photo):
        raise PhotoError(f"the photo is damaged: its TIFF tags claim {claimed} bytes, the file has {len(photo)}")
    compression = number(_COMPRESSION, 1)
    if compression not in _COMPRESSIONS:
        raise PhotoError(
            f"the photo is a TIFF of compression {compression}, which photos do not have; accepted are none, LZW, "
            "JPEG, Deflate and PackBits"
        )
    width, height = number(_WIDTH, 0), number(_HEIGHT, 0)
    limits.check_pixels(width, height)
    tile_width, tile_height = number(_TILE_WIDTH, max(width, 1)), number(_TILE_HEIGHT, number(_ROWS, max(height, 1)))
    if _TILES in entries:
        limits.check_pixels(tile_width, tile_height)
    if not (tile_width and tile_height):
        raise PhotoError("the photo is damaged: its TIFF tiles have no size")
    pieces = math.ceil(width / tile_width) * math.ceil(height / tile_height)
    planes = number(_SAMPLES, 1) if number(_PLANAR, 1) == 2 else 1  # noqa: PLR2004  # each channel by itself
    for tag in (_STRIPS, _TILES):
        if tag in entries and entries[tag].values > pieces * planes:
            raise PhotoError(
                f"the photo is damaged: {entries[tag].values} pieces where {pieces * planes} make the picture"
            )
