"""Files that Pillow does not write: what is possible, what is odd, and what is a lie."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from PIL import Image

ORIENTATION = 274


def encoded(image: Image.Image, form: str = "PNG", **options: object) -> bytes:
    """The image as a file's bytes."""
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def exif(orientation: int) -> bytes:
    """An EXIF block that says how the camera was held."""
    block = Image.Exif()
    block[ORIENTATION] = orientation
    return block.tobytes()


def many_tags(entries: int, size: int) -> bytes:
    """A TIFF directory whose tags all claim the same bytes: parsing them takes ``entries * size`` bytes."""
    start = 8 + size
    tags = b"".join(struct.pack("<HHII", 40_000 + tag, 7, size, 8) for tag in range(entries))
    return b"II*\0" + struct.pack("<I", start) + bytes(size) + struct.pack("<H", entries) + tags + bytes(4)


def png_chunk(kind: bytes, content: bytes) -> bytes:
    """A chunk with its length and checksum."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(size: tuple[int, int], depth: int, colour: int, rows: bytes, *, interlaced: bool = False) -> bytes:
    """A PNG of raw rows, each with its filter byte; depth in bits, colour type 0, 2, 3, 4 or 6."""
    header = struct.pack(">IIBBBBB", *size, depth, colour, 0, 0, int(interlaced))
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(kind, content) for kind, content in chunks)


def png_rows(samples: np.ndarray) -> bytes:
    """Rows of (height, width, channels) samples, unfiltered; 16-bit ones in PNG's byte order."""
    ordered = samples.astype(samples.dtype.newbyteorder(">"))
    return b"".join(b"\0" + row.tobytes() for row in ordered)


def png_with(image: bytes, *chunks: tuple[bytes, bytes]) -> bytes:
    """The PNG with further chunks after its header."""
    return image[:33] + b"".join(png_chunk(kind, content) for kind, content in chunks) + image[33:]


def adam7(samples: np.ndarray) -> bytes:
    """Rows in the seven passes of an interlaced PNG."""
    passes = ((0, 8, 0, 8), (0, 8, 4, 8), (4, 8, 0, 4), (0, 4, 2, 4), (2, 4, 0, 2), (0, 2, 1, 2), (1, 2, 0, 1))
    return b"".join(png_rows(samples[top::down, left::right]) for top, down, left, right in passes)


def segment(marker: int, body: bytes) -> bytes:
    """A JPEG segment."""
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


def jpeg_with(image: bytes, *pieces: bytes) -> bytes:
    """The JPEG with further bytes right after its start."""
    return image[:2] + b"".join(pieces) + image[2:]


def jpeg_of_scans(side: int, scans: int) -> bytes:
    """A grey progressive JPEG in which every scan, of a few bytes, goes over all pixels again."""
    plain = encoded(Image.new("RGB", (64, 64), (128, 128, 128)), "JPEG", progressive=True, subsampling=0)
    start = plain.index(b"\xff\xda")
    head = bytearray(plain[:start])
    frame = head.index(b"\xff\xc2")
    head[frame + 5 : frame + 9] = struct.pack(">HH", side, side)
    first = segment(0xDA, bytes([3, 1, 0, 2, 0, 3, 0, 0, 0, 0])) + bytes(4)
    refinement = segment(0xDA, bytes([3, 1, 0, 2, 0, 3, 0, 0, 0, 0x10]))
    return bytes(head) + first + refinement * (scans - 1) + b"\xff\xd9"


Tags = Mapping[int, tuple[int, Sequence[int]]]
_TIFF_TYPES = {1: "B", 3: "H", 4: "I", 7: "B"}


def tiff(pages: Iterable[Tags], data: bytes = b"", *, order: str = "<") -> bytes:
    """A TIFF: header, ``data`` at offset 8, then its pages' directories.

    Tags are number → (type, values); values above four bytes are placed after the directory.
    """
    body = {"<": b"II*\0", ">": b"MM\0*"}[order] + bytes(4) + data
    link = 4
    for tags in pages:
        body += bytes(len(body) % 2)
        body = body[:link] + struct.pack(order + "I", len(body)) + body[link + 4 :]
        outside = len(body) + 2 + 12 * len(tags) + 4
        directory, values_behind = struct.pack(order + "H", len(tags)), b""
        for tag, (kind, values) in sorted(tags.items()):
            packed = struct.pack(f"{order}{len(values)}{_TIFF_TYPES[kind]}", *values)
            if len(packed) > 4:
                place = struct.pack(order + "I", outside + len(values_behind))
                values_behind += packed + bytes(len(packed) % 2)
            else:
                place = packed.ljust(4, b"\0")
            directory += struct.pack(order + "HHI", tag, kind, len(values)) + place
        link = len(body) + len(directory)
        body += directory + bytes(4) + values_behind
    return body


def tiff_of(samples: np.ndarray, *, order: str = "<", tile: int | None = None) -> bytes:
    """An uncompressed TIFF of (height, width, 3) samples of 8 or 16 bits, in one strip or in square tiles."""
    height, width = samples.shape[:2]
    bits = samples.dtype.itemsize * 8
    ordered = samples.astype(samples.dtype.newbyteorder(order))
    tags = {256: (3, [width]), 257: (3, [height]), 258: (3, [bits] * 3), 259: (3, [1]), 262: (3, [2]), 277: (3, [3])}
    if tile is None:
        tags |= {273: (4, [8]), 278: (3, [height]), 279: (4, [ordered.nbytes])}
        return tiff([tags], ordered.tobytes(), order=order)
    padded = np.pad(ordered, ((0, -height % tile), (0, -width % tile), (0, 0)))
    rows, columns = padded.shape[0] // tile, padded.shape[1] // tile
    tiles = padded.reshape(rows, tile, columns, tile, 3).swapaxes(1, 2)
    size = tile * tile * 3 * samples.dtype.itemsize
    offsets = [8 + size * number for number in range(rows * columns)]
    tags |= {322: (3, [tile]), 323: (3, [tile]), 324: (4, offsets), 325: (4, [size] * len(offsets))}
    return tiff([tags], tiles.tobytes(), order=order)


def gif(canvas: tuple[int, int], frames: Iterable[tuple[int, int, int, int]], *, before: bytes = b"") -> bytes:
    """A GIF of frames (left, top, width, height) that hold one pixel of data each, whatever they claim."""
    data = b"\x02\x02\x4c\x01\0"
    images = (b"," + struct.pack("<HHHHB", *frame, 0) + data for frame in frames)
    header = b"GIF89a" + struct.pack("<HH", *canvas) + b"\x80\0\0" + bytes([0, 0, 0, 255, 255, 255])
    return header + before + b"".join(images) + b";"


def gif_blocks(content: bytes, size: int = 255) -> bytes:
    """Content in sub-blocks of at most ``size`` bytes, with the empty one that ends them."""
    pieces = [content[start : start + size] for start in range(0, len(content), size)]
    return b"".join(bytes([len(piece)]) + piece for piece in pieces) + b"\0"


def riff(*chunks: tuple[bytes, bytes]) -> bytes:
    """A WebP file of these chunks."""
    body = b"WEBP" + b"".join(
        kind + struct.pack("<I", len(content)) + content + bytes(len(content) % 2) for kind, content in chunks
    )
    return b"RIFF" + struct.pack("<I", len(body)) + body


def patched(image: bytes, place: int, form: str, *values: int) -> bytes:
    """The file with numbers overwritten."""
    return image[:place] + struct.pack(form, *values) + image[place + struct.calcsize(form) :]


def avif_of_frames(still: bytes, frames: int) -> bytes:
    """The AVIF that Pillow wrote of one image, with so many frames in the place of its one."""
    start = still.index(b"\x12\0\x0a")  # a delimiter, then the header with its length; the frame is the rest
    stream = still[start:] + still[start + 4 + still[start + 3] :] * (frames - 1)
    head = patched(still[:start], still.index(b"iloc") + 22, ">I", len(stream))
    return patched(head, start - 8, ">I", len(stream) + 8) + stream
