"""Count the pixels that the AV1 streams of an AVIF declare: libavif decodes them, whatever the container declares."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator

from .limits import InvalidImageError, Limits

# Boxes, items, extents of an item or units of a stream: an image has about ten of each, a grid of images a hundred.
_MAX_PIECES = 1_000
# In units of the largest image: alpha and quality layers are decoded too.
_MAX_HELD = 4
_SEQUENCE_HEADER, _FRAME_HEADER, _FRAME = 1, 3, 6
_HEADER_BYTES = 128  # at most, up to width and height
_LEVEL_WITH_TIER = 8


def still_image(data: bytes, limits: Limits) -> tuple[bytes, int]:
    """Remove animation and metadata, and count the pixels that the decoder will hold.

    Returns:
        The file, and how many pixels its decoder holds.

    Raises:
        InvalidImageError: damaged, or above a limit.
        LookupError, struct.error: it ends too early.
    """
    boxes = _boxes(data, 0, len(data))
    whole = boxes.get(b"meta", slice(0, 0))
    meta = _boxes(data, whole.start + 4, whole.stop)
    if b"moov" in boxes and b"iloc" not in meta:
        raise InvalidImageError("the image is an AVIF sequence without a still image; save one of its frames")
    held = 0
    for stream in _items(data, meta):
        width, height, frames = _announced(stream)
        limits.check_pixels(width, height)  # larger-inside.avif
        held += width * height * frames
    if held > _MAX_HELD * limits.max_pixels:  # many-frames.avif
        limit = _MAX_HELD * limits.max_pixels
        raise InvalidImageError(
            f"the frames of this AVIF image have {held} pixels in total, more than the {limit} allowed; save one frame"
        )
    still = bytearray(data)
    still[8:12] = b"avif"  # the brand of images that are not animated
    # absurd-orientation.avif: Pillow parses EXIF of any size.
    still[meta[b"iinf"]] = data[meta[b"iinf"]].replace(b"Exif", b"skip").replace(b"mime", b"skip")
    return bytes(still), held


def _boxes(data: bytes, position: int, end: int) -> dict[bytes, slice]:
    """Find the content of the first box of each type."""
    found: dict[bytes, slice] = {}
    for _ in range(_MAX_PIECES):
        if position + 8 > end:
            break
        size, kind = struct.unpack_from(">I4s", data, position)
        start = position + 8
        if size == 1:
            (size,) = struct.unpack_from(">Q", data, start)
            start += 8
        position = position + size if size else end
        if not start <= position <= end:
            break
        found.setdefault(kind, slice(start, position))
    return found


def _items(data: bytes, meta: dict[bytes, slice]) -> Iterator[bytes]:
    """Collect the bytes of each item from its extents in the container."""
    block = io.BytesIO(data[meta[b"iloc"]])

    def number(size: int) -> int:
        return int.from_bytes(block.read(size), "big")

    def count(size: int) -> range:
        pieces = number(size)
        if pieces > _MAX_PIECES:
            raise InvalidImageError(
                f"this AVIF image has {pieces} extents, more than the {_MAX_PIECES} allowed; re-encode it"
            )
        return range(pieces)

    version, _, sizes = number(1), number(3), number(2)
    wide, total = 4 if version > 1 else 2, 0
    for _ in count(wide):
        number(wide)
        source = data[meta[b"idat"]] if version and number(2) & 15 else data
        number(2)
        base, extents = number(sizes >> 4 & 15), []
        for _ in count(2):
            number(sizes & 15 if version else 0)
            start, length = base + number(sizes >> 12), number(sizes >> 8 & 15)
            total += length or len(source)
            if total > len(data):
                raise InvalidImageError("the image is damaged or truncated: its AVIF claims more bytes than it has")
            extents.append(source[start : start + length] if length else source[start:])
        yield b"".join(extents)


def _announced(stream: bytes) -> tuple[int, int, int]:
    """Return the largest width and height that an AV1 stream declares, and its frames; 0 for other streams."""
    width = height = frames = position = 0
    for _ in range(_MAX_PIECES):
        if position >= len(stream):
            return width, height, frames
        header = stream[position]
        kind = header >> 3 & 15
        position += 2 if header & 4 else 1
        size = len(stream) - position
        if header & 2:
            size, position = _leb128(stream, position)
        if kind == _SEQUENCE_HEADER:
            found = _size(stream[position : position + min(size, _HEADER_BYTES)])
            width, height = max(width, found[0]), max(height, found[1])
        frames += kind in {_FRAME_HEADER, _FRAME}
        position += size
    raise InvalidImageError(f"this AVIF image has more than {_MAX_PIECES} data units; re-encode it")


def _leb128(stream: bytes, position: int) -> tuple[int, int]:
    """Read a number of 7 bits a byte; the last byte has no eighth bit."""
    value = 0
    for shift in range(0, 56, 7):
        byte = stream[position]
        position += 1
        value |= (byte & 127) << shift
        if byte < 128:  # noqa: PLR2004  # the eighth bit
            break
    return value, position


def _size(header: bytes) -> tuple[int, int]:
    """Read the largest width and height from an AV1 sequence header (section 5.5 of its specification)."""
    bits, left = int.from_bytes(header.ljust(_HEADER_BYTES, b"\0"), "big"), 8 * _HEADER_BYTES

    def take(count: int) -> int:
        nonlocal left
        left -= count
        return bits >> left & (1 << count) - 1

    take(4)
    is_still = take(1)
    if is_still:
        take(5)
    else:
        if take(1):
            raise InvalidImageError("the image is an AVIF sequence with the timing of a video; save one of its frames")
        has_delay = take(1)
        for _ in range(take(5) + 1):
            take(12)
            if take(5) >= _LEVEL_WITH_TIER:
                take(1)
            if has_delay and take(1):
                take(4)
    width_bits, height_bits = take(4) + 1, take(4) + 1
    if is_still:
        return take(width_bits) + 1, take(height_bits) + 1
    # larger-frame.avif: each frame may have its own size, up to the number of bits.
    return 1 << width_bits, 1 << height_bits
