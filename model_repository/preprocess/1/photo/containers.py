"""From a file to the one picture in it: what a decoder never sees cannot harm it.

Each format has a reader that walks the file's own structure, keeps what describes the first picture, and
leaves out the rest: further frames and pages, colour profiles, texts, thumbnails, previews, films behind the
photo. Of the metadata only the orientation is used, so only that is read. What Pillow's plugins or the
libraries below them would do with hostile metadata (parse it for minutes, expand it a thousandfold) does not
happen; what is left costs time and memory in proportion to the photo's bytes and pixels.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator
from typing import NamedTuple

from . import avif, tiff
from .limits import Limits, PhotoError

# Files are cut into so many pieces by nobody who means well.
_MAX_PIECES = 50_000
# Encoders write about 10; each costs a pass over all pixels (libtiff allows 100).
_MAX_SCANS = 50


class Picture(NamedTuple):
    """A file that holds one picture and nothing else.

    Attributes:
        format: Pillow's name of the format.
        data: the file.
        orientation: how to turn it, as EXIF counts, 1 to 8; 1 also where the decoder turns it.
        is_buffered: whether a decoder holds the whole picture before it gives the first row, however small that is.
    """

    format: str
    data: bytes
    orientation: int = 1
    is_buffered: bool = False


def read(photo: bytes, limits: Limits) -> Picture:
    """Recognise the format by its first bytes and reduce the file to its first picture.

    Raises:
        PhotoError: no format that is accepted, damaged, or above a limit.
    """
    for pattern, reader in _READERS:
        if pattern.match(photo):
            try:
                return reader(photo, limits)
            except (struct.error, LookupError) as exc:
                raise PhotoError("the photo is damaged or truncated: it ends too early") from exc
    looks_like = next((f"; it looks like {name}" for pattern, name in _OTHERS if pattern.match(photo)), "")
    raise PhotoError(f"the {len(photo)} bytes are not a photo in a known format ({_KNOWN}){looks_like}")


# Markers that mean something to a JPEG decoder: not stuffed zeros, fill bytes, restarts.
_JPEG_MARKER = re.compile(rb"\xff([\x02-\xcf\xd8-\xfe])")
_SOI, _EOI, _SOS, _SOF2, _APP0, _APP1, _APP14 = 0xD8, 0xD9, 0xDA, 0xC2, 0xE0, 0xE1, 0xEE
_JPEG_FRAMES = frozenset({0xC0, 0xC1, _SOF2})  # baseline, extended, progressive; all with Huffman codes
_JPEG_TABLES = frozenset({0xC4, 0xDB, 0xDD})
_JPEG_OTHER_FRAMES = frozenset({0xC3, *range(0xC5, 0xC8), *range(0xC9, 0xCC), *range(0xCD, 0xD0)})
_EXIF, _XMP = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0"


def _jpeg(photo: bytes, limits: Limits) -> Picture:  # noqa: ARG001  # a JPEG is one frame
    segments = list(_jpeg_segments(photo))
    scans = [start for marker, start, _ in segments if marker == _SOS]
    if len(scans) > _MAX_SCANS:
        raise PhotoError(f"the photo is a JPEG of {len(scans)} scans, more than the {_MAX_SCANS} allowed; save it anew")
    head = [segment for segment in segments if scans and segment[1] < scans[0]]
    if any(marker in _JPEG_OTHER_FRAMES for marker, _, _ in head):
        raise PhotoError("the photo is a lossless, hierarchical or arithmetic-coded JPEG; save it as a usual one")
    frames = [(marker, start) for marker, start, _ in head if marker in _JPEG_FRAMES]
    if len(frames) != 1:
        raise PhotoError("the photo is damaged or truncated: no picture in this JPEG")
    kept, exif, xmp = [photo[:2]], b"", b""
    for marker, start, after in head:
        body = photo[start + 4 : after]
        if marker == _APP1 and body.startswith(_EXIF):
            exif = exif or body
        elif marker == _APP1 and body.startswith(_XMP):
            xmp = xmp or body
        elif _jpeg_decoder_needs(marker, body):
            kept.append(photo[start:after])
    end = segments[-1][2] if segments[-1][0] == _EOI else len(photo)
    return Picture(
        "JPEG",
        b"".join([*kept, photo[scans[0] : end]]),
        _orientation(exif, xmp),
        _jpeg_is_buffered(photo, *frames[0], scans[0]),
    )


def _jpeg_is_buffered(photo: bytes, kind: int, frame: int, scan: int) -> bool:
    """Tell whether libjpeg holds all coefficients: progressive, or not all components in the first scan."""
    return kind == _SOF2 or photo[scan + 4 : scan + 5] != photo[frame + 9 : frame + 10]


def _jpeg_decoder_needs(marker: int, body: bytes) -> bool:
    if marker in _JPEG_FRAMES or marker in _JPEG_TABLES:
        return True
    # Both tell in which colours the picture is written.
    return (marker == _APP0 and body.startswith(b"JFIF\0")) or (marker == _APP14 and body.startswith(b"Adobe"))


def _jpeg_segments(photo: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield marker, start and end of every segment up to the end of the picture, as libjpeg finds them."""
    position = 2
    for _ in range(_MAX_PIECES):
        found = _JPEG_MARKER.search(photo, position)
        if found is None:
            return
        marker, start = found[1][0], found.start()
        if marker in {_SOI, _EOI}:
            length = 0
        elif start + 4 > len(photo):
            return
        else:
            (length,) = struct.unpack_from(">H", photo, start + 2)
        position = start + 2 + length
        yield marker, start, position
        if marker == _EOI:
            return
    raise PhotoError(f"the photo is a JPEG of more than {_MAX_PIECES} segments; save it anew")


def _png(photo: bytes, limits: Limits) -> Picture:
    kept, exif, xmp = [photo[:8]], b"", b""
    for kind, start, after in _chunks(photo, 8, ">I4s", 12):
        if kind in {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"}:
            kept.append(photo[start:after])
        elif kind == b"eXIf":
            exif = photo[start + 8 : after - 4]
        elif kind == b"iTXt" and photo.startswith(b"XML:com.adobe.xmp\0", start + 8):
            xmp = photo[start + 8 : after]
        elif kind == b"acTL":
            limits.check_frames(struct.unpack_from(">I", photo, start + 8)[0])
        if kind == b"IEND":
            break
    return Picture("PNG", b"".join(kept), _orientation(exif, xmp))


def _webp(photo: bytes, limits: Limits) -> Picture:
    kept, exif, xmp, frames = [], b"", b"", 0
    for fourcc, start, after in _chunks(photo, 12, "<4sI", 8):
        frames += fourcc == b"ANMF"
        if fourcc in {b"VP8X", b"ANIM", b"ALPH", b"VP8 ", b"VP8L"} or (fourcc == b"ANMF" and frames == 1):
            kept.append(photo[start:after])
        elif fourcc == b"EXIF":
            exif = photo[start + 8 : after]
        elif fourcc == b"XMP ":
            xmp = photo[start + 8 : after]
    limits.check_frames(frames)
    body = b"".join(kept)
    return Picture("WEBP", struct.pack("<4sI4s", b"RIFF", 4 + len(body), b"WEBP") + body, _orientation(exif, xmp))


def _chunks(photo: bytes, position: int, header: str, overhead: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield kind, start and end of every chunk; ``overhead`` is what a chunk has beside its content."""
    for _ in range(_MAX_PIECES):
        if position + 8 > len(photo):
            return
        first, second = struct.unpack_from(header, photo, position)
        kind, length = (second, first) if header.startswith(">") else (first, second)
        after = position + overhead + length
        if header.startswith("<"):
            after += length % 2  # RIFF pads to even
        yield kind, position, after
        position = after
    raise PhotoError(f"the photo is made of more than {_MAX_PIECES} pieces; save it anew")


_GIF_BLOCK = re.compile(rb"[!,;]")
_GIF_CONTROL = 0xF9


def _gif(photo: bytes, limits: Limits) -> Picture:
    header = position = 13 + _gif_palette(photo[10])
    control, picture, frames = b"", b"", 0
    # Other bytes between blocks are passed over, as Pillow does.
    while (block := _GIF_BLOCK.search(photo, position)) and block[0] != b";":
        start = block.start()
        if block[0] == b"!":
            position = _gif_data_end(photo, start + 2)
            if photo[start + 1] == _GIF_CONTROL and not picture:
                control = photo[start:position]
        else:
            position = _gif_data_end(photo, start + 11 + _gif_palette(photo[start + 9]))
            picture = picture or photo[start:position]
            frames += 1
            limits.check_frames(frames)
    if not picture:
        raise PhotoError("the photo is damaged or truncated: no picture in this GIF")
    return Picture("GIF", photo[:header] + control + picture)


def _gif_palette(flags: int) -> int:
    return 3 << ((flags & 7) + 1) if flags & 128 else 0


def _gif_data_end(photo: bytes, position: int) -> int:
    """Find the end of a chain of sub-blocks, each preceded by its length; the last has none."""
    size = len(photo)
    while position < size and (length := photo[position]):
        position += length + 1
    return position + 1


def _avif(photo: bytes, limits: Limits) -> Picture:
    return Picture("AVIF", avif.main_picture(photo, limits))


def _bmp(photo: bytes, limits: Limits) -> Picture:  # noqa: ARG001  # its only limit is the number of pixels
    header, compression = struct.unpack_from("<I12xI", photo, 14)
    if header > 12 and compression in {1, 2}:  # noqa: PLR2004  # the older header knows no compression
        raise PhotoError("the photo is a run-length-encoded BMP, which photos are not; save it without compression")
    return Picture("BMP", photo)


def _tiff(photo: bytes, limits: Limits) -> Picture:
    return Picture("TIFF", tiff.first_page(photo, limits))


_XMP_ORIENTATION = re.compile(rb'tiff:Orientation(?:="|>)([1-8])')


def _orientation(exif: bytes, xmp: bytes) -> int:
    turned = tiff.orientation(exif)
    found = _XMP_ORIENTATION.search(xmp) if turned == 1 else None
    return int(found[1]) if found else turned


_Reader = Callable[[bytes, Limits], Picture]
_READERS: tuple[tuple[re.Pattern[bytes], _Reader], ...] = (
    (re.compile(rb"\xff\xd8\xff"), _jpeg),
    (re.compile(rb"\x89PNG\r\n\x1a\n"), _png),
    (re.compile(rb"RIFF(?s:....)WEBPVP8[ LX]"), _webp),
    (re.compile(rb"GIF8[79]a"), _gif),
    (re.compile(rb"BM"), _bmp),
    (re.compile(rb"II\*\0|MM\0\*"), _tiff),
    (re.compile(rb"(?s:....)ftypavi[fs]|(?s:....)ftypm[is]f1(?s:.){4,64}avi[fs]"), _avif),
)
_KNOWN = "JPEG, PNG, WebP, GIF, BMP, TIFF or AVIF"
# What people send by mistake, for the sentence that refuses it.
_OTHERS = (
    (re.compile(rb"(?s:....)ftyp(?:hei[cxms]|hev[cx]|mif1)"), "HEIC; save it as JPEG"),
    (re.compile(rb"(?s:....)ftyp|\x1aE\xdf\xa3|RIFF(?s:....)AVI "), "a film"),
    (re.compile(rb"%PDF|%!PS|\xc5\xd0\xd3\xc6"), "PDF or PostScript"),
    (re.compile(rb"(?:\xef\xbb\xbf)?\s*<(?:\?xml|svg|!DOCTYPE|html)", re.IGNORECASE), "SVG, XML or HTML"),
    (re.compile(rb"\0\0\x01\0|\0\0\x02\0"), "an icon"),
    (re.compile(rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51"), "JPEG 2000"),
    (re.compile(rb"\0\0\0\x0cJXL |\xff\x0a"), "JPEG XL"),
    (re.compile(rb"II\+\0|MM\0\+"), "BigTIFF"),
    (re.compile(rb"P[1-7fF]\s"), "a portable bitmap"),
    (re.compile(rb"8BPS"), "a Photoshop file"),
    (re.compile(rb"PK\x03\x04|\x1f\x8b|7z\xbc\xaf|Rar!"), "an archive"),
)
