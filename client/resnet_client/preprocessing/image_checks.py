"""Check an encoded image before Pillow opens it, and remove parts that Pillow reads without a limit.

Pillow 13 bounds most costs of a malformed file. This module, `tiff` and `avif` check the others; each check names the
file of ``tests/corpus`` that needs it.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import NamedTuple

from . import avif, tiff
from .limits import InvalidImageError, Limits

# segments.jpg, pieces.png: Pillow takes up to 3 µs and 130 bytes for each, and 32 MiB have room for 8 million.
_MAX_PIECES = 50_000
# scans.jpg: each scan is a pass over all pixels, 28 kB take 20 s. Encoders write about 10.
_MAX_SCANS = 50


class Checked(NamedTuple):
    """A file that Pillow decodes with bounded cost.

    Attributes:
        format: Pillow's name of the format.
        data: the file.
        held_pixels: pixels that the decoder keeps in memory, if more than those of the decoded image.
        metadata: removed metadata that may contain the orientation, named as in Pillow's ``Image.info``.
    """

    format: str
    data: bytes
    held_pixels: int = 0
    metadata: Mapping[str, bytes] = MappingProxyType({})


def check(data: bytes, limits: Limits) -> Checked:
    """Recognise the format by the first bytes and check the structure.

    Raises:
        InvalidImageError: not in an accepted format, damaged, or above a limit.
    """
    for pattern, checker in _FORMATS:
        if pattern.match(data):
            try:
                return checker(data, limits)
            except (struct.error, LookupError) as exc:
                raise InvalidImageError("the image is damaged or truncated: it ends too early") from exc
    looks_like = next((f"; it looks like {name}" for pattern, name in _OTHERS if pattern.match(data)), "")
    raise InvalidImageError(f"the {len(data)} bytes are not an image in a known format ({_KNOWN}){looks_like}")


# Markers of segments, without stuffed zeros, fill bytes and restarts.
_JPEG_MARKER = re.compile(rb"\xff([\x02-\xcf\xd8-\xfe])")
_SOI, _EOI, _SOS, _APP1 = 0xD8, 0xD9, 0xDA, 0xE1
_BASELINE, _EXTENDED, _PROGRESSIVE = 0xC0, 0xC1, 0xC2
_JPEG_KEPT = frozenset({_BASELINE, _EXTENDED, _PROGRESSIVE, 0xC4, 0xDB, 0xDD})  # frame and tables
_JPEG_OTHER_FRAMES = frozenset(range(0xC3, 0xD0)) - {0xC4, 0xC8, 0xCC}
_COLOURS = re.compile(rb"\xff\xe0..JFIF\0|\xff\xee..Adobe", re.DOTALL)
_EXIF, _XMP = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0"


def _jpeg(data: bytes, limits: Limits) -> Checked:  # noqa: ARG001  # a JPEG is one frame
    segments = list(_jpeg_segments(data))
    scans = [start for marker, start, _ in segments if marker == _SOS]
    if len(scans) > _MAX_SCANS:
        raise InvalidImageError(
            f"the image is a JPEG of {len(scans)} scans, more than the {_MAX_SCANS} allowed; save it as baseline JPEG"
        )
    first_scan = scans[0] if scans else len(data)
    kept, held = [data[:2]], 0
    metadata: dict[str, bytes] = {}
    # exif-in-pieces.jpg, fill-bytes.jpg: Pillow joins all EXIF, again for each piece, and takes 0.7 µs for a fill byte.
    for marker, start, end in segments:
        if start >= first_scan:
            break
        if marker in _JPEG_OTHER_FRAMES:
            raise InvalidImageError("the image is a lossless or arithmetic-coded JPEG; save it as baseline JPEG")
        if marker in _JPEG_KEPT or _COLOURS.match(data, start):
            kept.append(data[start:end])
        elif marker == _APP1 and data.startswith(_EXIF, start + 4):
            metadata.setdefault("exif", data[start + 4 : end])
        elif marker == _APP1 and data.startswith(_XMP, start + 4):
            metadata.setdefault("xmp", data[start + 4 : end])
        if marker in {_BASELINE, _EXTENDED, _PROGRESSIVE} and scans:
            height, width, channels = struct.unpack_from(">HHB", data, start + 5)
            # libjpeg keeps all coefficients in memory unless every scan has all channels.
            held = height * width if marker == _PROGRESSIVE or data[first_scan + 4] != channels else 0
    end = segments[-1][2] if segments and segments[-1][0] == _EOI else len(data)
    return Checked("JPEG", b"".join([*kept, data[first_scan:end]]), held, metadata)


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield marker, start and end of every segment up to the end of the image, as libjpeg finds them."""
    position = 2
    for _ in range(_MAX_PIECES):
        found = _JPEG_MARKER.search(data, position)
        if found is None:
            return
        marker, start = found[1][0], found.start()
        if marker in {_SOI, _EOI}:
            position = start + 2
        elif start + 4 > len(data):
            return
        else:
            position = start + 2 + struct.unpack_from(">H", data, start + 2)[0]
        yield marker, start, position
        if marker == _EOI:
            return
    raise InvalidImageError(f"the image is a JPEG of more than {_MAX_PIECES} segments; save it as baseline JPEG")


_PNG_KEPT = frozenset({b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"})
_PNG_TEXT = frozenset({b"tEXt", b"zTXt", b"iTXt"})
_PNG_ORIENTATION = re.compile(rb"(?:Raw profile type exif|XML:com\.adobe\.xmp)\0")


def _png(data: bytes, limits: Limits) -> Checked:
    kept = [data[:8]]
    metadata: dict[str, bytes] = {}
    texts: set[bytes] = set()
    # text-bomb.png, profile-bomb.png: Pillow refuses images for large texts, and expands any number of small ones.
    for kind, start, end in _png_chunks(data):
        if kind in _PNG_KEPT:
            kept.append(data[start:end])
        elif kind == b"eXIf":
            metadata["exif"] = data[start + 8 : end - 4]
        elif kind in _PNG_TEXT and (name := _PNG_ORIENTATION.match(data, start + 8)) and name[0] not in texts:
            texts.add(name[0])
            kept.append(data[start:end])
        elif kind == b"acTL":
            limits.check_frames(struct.unpack_from(">I", data, start + 8)[0])
    return Checked("PNG", b"".join(kept), metadata=metadata)


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield type, start and end of every chunk."""
    position = 8
    for _ in range(_MAX_PIECES):
        if position + 8 > len(data):
            return
        length, kind = struct.unpack_from(">I4s", data, position)
        start, position = position, position + 12 + length
        yield kind, start, position
        if kind == b"IEND":
            return
    raise InvalidImageError(f"the image is a PNG of more than {_MAX_PIECES} chunks; re-encode it")


_GIF_BLOCK = re.compile(rb"[!,;]")
_GIF_CONTROL = 0xF9


def _gif(data: bytes, limits: Limits) -> Checked:
    """Keep the first frame only: for absurd-comment.gif, Pillow needs 45 times its size; also frames.gif."""
    header = position = 13 + _gif_palette(data[10])
    control, image, frames = b"", b"", 0
    for _ in range(_MAX_PIECES):
        # Pillow also skips other bytes between blocks.
        block = _GIF_BLOCK.search(data, position)
        if block is None or block[0] == b";":
            break
        start = block.start()
        if block[0] == b"!":
            position = _gif_data_end(data, start + 2)
            if data[start + 1] == _GIF_CONTROL and not image:
                control = data[start:position]
        else:
            position = _gif_data_end(data, start + 11 + _gif_palette(data[start + 9]))
            image = image or data[start:position]
            frames += 1
            limits.check_frames(frames)
    return Checked("GIF", data[:header] + control + image)


def _gif_palette(flags: int) -> int:
    return 3 << ((flags & 7) + 1) if flags & 128 else 0


def _gif_data_end(data: bytes, position: int) -> int:
    """Find the end of a chain of sub-blocks, each preceded by its length; the last has none."""
    size = len(data)
    while position < size and (length := data[position]):
        position += length + 1
    return position + 1


_FORMATS: tuple[tuple[re.Pattern[bytes], Callable[[bytes, Limits], Checked]], ...] = (
    (re.compile(rb"\xff\xd8\xff"), _jpeg),
    (re.compile(rb"\x89PNG\r\n\x1a\n"), _png),
    (re.compile(rb"GIF8[79]a"), _gif),
    (re.compile(rb"II\*\0|MM\0\*"), lambda *file: Checked("TIFF", tiff.first_page(*file))),
    (re.compile(rb"(?s:....ftyp(?:m[is]f1.{4,64})?avi[fs])"), lambda *file: Checked("AVIF", *avif.still_image(*file))),
    (re.compile(rb"RIFF(?s:....)WEBPVP8[ LX]"), lambda data, _: Checked("WEBP", data)),
    (re.compile(rb"BM"), lambda data, _: Checked("BMP", data)),
)
_KNOWN = "JPEG, PNG, WebP, GIF, BMP, TIFF or AVIF"
# Other formats that users send, for the message.
_OTHERS = (
    (re.compile(rb"(?s:....)ftyp(?:hei[cxms]|hev[cx]|mif1)"), "HEIC; save it as JPEG"),
    (re.compile(rb"(?s:....)ftyp|\x1aE\xdf\xa3|RIFF(?s:....)AVI "), "a video"),
    (re.compile(rb"%PDF|%!PS|\xc5\xd0\xd3\xc6"), "PDF or PostScript"),
    (re.compile(rb"(?:\xef\xbb\xbf)?\s*<(?:\?xml|svg|!DOCTYPE|html)", re.IGNORECASE), "SVG, XML or HTML"),
    (re.compile(rb"\0\0\0\x0cJXL |\xff\x0a|\0\0\0\x0cjP  |\xff\x4f\xff\x51"), "JPEG XL or JPEG 2000"),
)
