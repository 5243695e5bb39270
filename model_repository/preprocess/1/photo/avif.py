"""An AVIF file, taken apart and put together again from its main picture alone.

The container says how large the picture is and a decoder believes the AV1 stream in it, which may say
otherwise; alpha, previews, EXIF, animations and grids of pictures lie beside it, each with sizes of its own.
So the stream's own header is read here, and what the decoder gets is a new container around that one stream.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from .limits import Limits, PhotoError

_MAX_BOXES = 1_000
# A picture has one frame; with layers of quality, up to four.
_MAX_FRAMES = 4
# Bytes, with all that a header may hold before the size.
_LONGEST_HEADER = 128
_SEQUENCE_HEADER, _FRAME_HEADER, _FRAME = 1, 3, 6
# What describes the picture: its size, channels, colours, turns; not what crops or layers it.
_PROPERTIES = frozenset({b"ispe", b"pixi", b"av1C", b"irot", b"imir"})


def main_picture(photo: bytes, limits: Limits) -> bytes:
    """Return an AVIF of the main picture and what it needs to be decoded.

    Raises:
        PhotoError: damaged, above a limit, or not one picture in one piece.
    """
    meta = _first(photo, b"meta")
    children = dict(_boxes(meta, 4))
    pitm = children[b"pitm"]
    (item,) = struct.unpack_from(">I" if pitm[0] else ">H", pitm, 4)
    if _kind(children[b"iinf"], item) != b"av01":
        raise PhotoError("the photo is an AVIF of several pieces; save it as one, or as JPEG")
    stream = _stream(photo, children, item)
    limits.check_pixels(*_size(stream))
    return _file(_properties(children[b"iprp"], item), stream)


def _boxes(block: bytes, position: int) -> Iterator[tuple[bytes, bytes]]:
    """Yield kind and content of every box; of the same kind, the last comes first, so that a dict keeps the first."""
    found = []
    for _ in range(_MAX_BOXES):
        if position + 8 > len(block):
            break
        size, kind = struct.unpack_from(">I4s", block, position)
        start, end = position + 8, position + size
        if size == 1:
            start, end = position + 16, position + struct.unpack_from(">Q", block, position + 8)[0]
        elif size == 0:
            end = len(block)
        if end < start:
            break
        found.append((kind, block[start:end]))
        position = end
    yield from reversed(found)


def _first(block: bytes, kind: bytes) -> bytes:
    boxes = dict(_boxes(block, 0))
    if kind not in boxes:
        raise PhotoError("the photo is damaged or truncated: no picture in this AVIF")
    return boxes[kind]


def _kind(iinf: bytes, item: int) -> bytes:
    for kind, entry in _boxes(iinf, 8 if iinf[0] else 6):
        if kind == b"infe" and entry[0] >= 2:  # noqa: PLR2004  # older entries have no kind
            form = ">I2x4s" if entry[0] > 2 else ">H2x4s"  # noqa: PLR2004
            number, found = struct.unpack_from(form, entry, 4)
            if number == item:
                return bytes(found)
    raise PhotoError("the photo is damaged: its AVIF has no main picture")


class _Reader:
    """Numbers of any length, one after the other."""

    def __init__(self, block: bytes, position: int) -> None:
        self._block, self._position = block, position

    def number(self, size: int) -> int:
        """Read a big-endian number of so many bytes."""
        end = self._position + size
        if end > len(self._block):
            raise PhotoError("the photo is damaged or truncated: a box of its AVIF ends too early")
        value = int.from_bytes(self._block[self._position : end], "big")
        self._position = end
        return value


def _stream(photo: bytes, children: dict[bytes, bytes], item: int) -> bytes:
    """Collect the item's bytes from wherever the container has put them."""
    iloc = children[b"iloc"]
    version, reader = iloc[0], _Reader(iloc, 4)
    sizes = reader.number(2)
    offset_size, length_size, base_size = sizes >> 12, sizes >> 8 & 15, sizes >> 4 & 15
    index_size = sizes & 15 if version else 0
    wide = 4 if version > 1 else 2
    for _ in range(min(reader.number(wide), _MAX_BOXES)):
        number = reader.number(wide)
        method = reader.number(2) & 15 if version else 0
        reader.number(2)
        base, extents = reader.number(base_size), []
        for _ in range(min(reader.number(2), _MAX_BOXES)):
            reader.number(index_size)
            extents.append((base + reader.number(offset_size), reader.number(length_size)))
        if number == item:
            source = children[b"idat"] if method == 1 else photo
            if sum(length for _, length in extents) > len(source) or method > 1:
                break
            return b"".join(source[start : start + length] if length else source[start:] for start, length in extents)
    raise PhotoError("the photo is damaged or truncated: the picture of this AVIF is not where it should be")


def _size(stream: bytes) -> tuple[int, int]:
    """Return the largest width and height that the AV1 stream announces."""
    width = height = frames = position = 0
    while position < len(stream):
        header = stream[position]
        kind = header >> 3 & 15
        position += 2 if header & 4 else 1
        size = len(stream) - position
        if header & 2:
            size, position = _leb128(stream, position)
        if kind == _SEQUENCE_HEADER:
            found = _announced(stream[position : position + min(size, _LONGEST_HEADER)])
            width, height = max(width, found[0]), max(height, found[1])
        frames += kind in {_FRAME_HEADER, _FRAME}
        position += size
    if not (width and frames) or frames > _MAX_FRAMES or position > len(stream):
        raise PhotoError(f"the photo is damaged or truncated: {frames} frames in the picture of this AVIF")
    return width, height


def _leb128(stream: bytes, position: int) -> tuple[int, int]:
    value = 0
    for count in range(8):
        byte = stream[position + count]
        value |= (byte & 127) << 7 * count
        if byte < 128:  # noqa: PLR2004  # the last has no eighth bit
            return value, position + count + 1
    raise PhotoError("the photo is damaged: a length in its AVIF never ends")


def _announced(header: bytes) -> tuple[int, int]:
    """Read width and height from an AV1 sequence header (section 5.5 of its specification)."""
    bits = iter("".join(f"{byte:08b}" for byte in header))

    def take(count: int) -> int:
        return int("".join(next(bits) for _ in range(count)), 2)

    try:
        take(4)
        if take(1):  # the short header of still pictures
            take(5)
        else:
            if take(1):
                raise PhotoError("the photo is an AVIF with the clock of a film; save it as a picture")
            has_delay = take(1)
            for _ in range(take(5) + 1):
                take(12)
                if take(5) > 7:  # noqa: PLR2004  # higher levels say their tier
                    take(1)
                if has_delay and take(1):
                    take(4)
        width_bits, height_bits = take(4) + 1, take(4) + 1
        return take(width_bits) + 1, take(height_bits) + 1
    except RuntimeError as exc:  # bits ended inside a generator
        raise PhotoError("the photo is damaged or truncated: the header of its picture ends too early") from exc


def _properties(iprp: bytes, item: int) -> list[bytes]:
    """Return the item's properties as boxes, in the item's order, which is the order of turns."""
    ipco = list(reversed(list(_boxes(_first(iprp, b"ipco"), 0))))
    ipma = _first(iprp, b"ipma")
    reader = _Reader(ipma, 4)
    wide = 2 if ipma[3] & 1 else 1
    for _ in range(min(reader.number(4), _MAX_BOXES)):
        number = reader.number(4 if ipma[0] else 2)
        entries = [reader.number(wide) for _ in range(reader.number(1))]
        if number == item:
            indices = [entry & (0x7FFF if wide > 1 else 0x7F) for entry in entries]
            chosen = [ipco[index - 1] for index in indices if 0 < index <= len(ipco)]
            return [_box(kind, content) for kind, content in chosen if _describes(kind, content)]
    raise PhotoError("the photo is damaged: its AVIF does not describe the picture")


def _describes(kind: bytes, content: bytes) -> bool:
    return kind in _PROPERTIES or (kind == b"colr" and content.startswith(b"nclx"))


def _box(kind: bytes, *contents: bytes) -> bytes:
    content = b"".join(contents)
    return struct.pack(">I", len(content) + 8) + kind + content


def _file(properties: list[bytes], stream: bytes) -> bytes:
    full = bytes(4)
    essential = bytes(0x80 | number for number in range(1, len(properties) + 1))
    item = b"\0\x01"
    head = _box(b"ftyp", b"avif", full, b"avifmif1miaf")
    before = [
        _box(b"hdlr", full, full, b"pict", bytes(13)),
        _box(b"pitm", full, item),
        _box(b"iinf", full, item, _box(b"infe", b"\x02\0\0\0", item, b"\0\0av01\0")),
        _box(
            b"iprp",
            _box(b"ipco", *properties),
            _box(b"ipma", full, struct.pack(">I", 1), item, bytes([len(properties)]), essential),
        ),
    ]
    # One item, one extent, offsets and lengths of four bytes.
    place = len(head) + len(_box(b"meta", full, *before)) + 30 + 8
    iloc = _box(b"iloc", full, b"\x44\0", item, item, b"\0\0", item, struct.pack(">II", place, len(stream)))
    return head + _box(b"meta", full, *before, iloc) + _box(b"mdat", stream)
