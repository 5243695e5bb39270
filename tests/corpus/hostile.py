"""Inputs that must be refused: files that are not images, damaged images, bombs and lies."""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Iterator

import numpy as np
from PIL import Image, features

from corpus import Case
from corpus.writers import (
    avif_of_frames,
    encoded,
    gif,
    jpeg_of_scans,
    patched,
    png,
    png_chunk,
    png_with,
    riff,
    tiff,
    tiff_of,
)

_UNKNOWN = "not an image in a known format"
_DAMAGED = "damaged or truncated"
_PIXELS = "pixels, more than the .* allowed"
# 16x16 pixels from `jpegtran -arithmetic`, which Pillow cannot write.
_ARITHMETIC = base64.b64decode(
    # pragma: allowlist nextline secret
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAAgGBgcGBQgHBwcJCQgKDBQNDAsLDBkSEw8UHRofHh0aHBwgJC4nICIsIxwcKDcpLDAxNDQ0Hyc5PTgy"
    "PC4zNDL/2wBDAQkJCQwLDBgNDRgyIRwhMjIyMjIyMjIyMjIyMjIyMjIyMjIyMjIyMjIyMjIyMjIyMjIyMjIyMjIyMjIyMjIyMjL/yQARCAAQABAD"
    # pragma: allowlist nextline secret
    "ASIAAhEBAxEB/8wACgAQEAUBEBEF/9oADAMBAAIRAxEAPwD/AI3EcoXKPmRMvYFLXfeBEV8apRi6N8qyyM4QSP/Z"
)
# 8000x8000 black pixels in an AVIF, which take Pillow seconds to encode.
_LARGE_AVIF = base64.b64decode(
    # pragma: allowlist nextline secret
    "eNpjYGCQSSupLEgsy0xjAAIQnZuZZpibmQjiv8xNLUlkgADFjJScIiiboSAzuYQBDfAVZJbkglmMQCyXmZOfDOK4gPiMEFFGXiD+CWRrZGbmpcHVSgE5"
    # pragma: allowlist nextline secret
    "qUxQXmKZgaFzfk4+2K6MzIKiAiDtmVmQnA+kRTKLC1Ih1sk7QDDI3opMsGYOIMGTWGbo3CgvAxIQTs7PKcpLzqkAmsvLwNYAFBLPLMiF+QjoLBZGpmYW"
    # pragma: allowlist nextline secret
    "BgYmxtyUxBIhBi4u+c929Z+/zeDIMDV6wSzB/1X0/j+dPwzW50/peK9PtKnY33lOu9FDe5fqsQJuJftaz+mT3G+K3ArX5AnNE8/XSAoNsj7wTJ755fNr"
    # pragma: allowlist nextline secret
    "MWFHTR0XrJRZ5dkwcJot8Wj+LP7d78oyredHvrzokxO/ZHXU9+/6fdP0ryeKXGLRL2mwIt9en4HSS65viwDYuwuA"
)

# The first frame of an animation of 8000x8000 black pixels; everything but its own header says 64x64.
_LARGE_FRAME = base64.b64decode(
    # pragma: allowlist nextline secret
    "eNpjYGCQSSupLEgsy0xjAAIQnZuZZpibmQjiP8lNLUlkgADFjJScIiiboSAzuYQBDfAVZJbkglmMQKycmZmXBueJAjmpTFBeYpmBIYiZkVlQVACkPTML"
    # pragma: allowlist nextline secret
    "kvOBtEhmcUEq1DAHKAYaWpEJ1scBJHgSywydG+VlQALCyfk5RXnJORVAI3kZ2BqAQuKZBbkw5zIyMLI0NjW3AJlymTn5ySAxF7AwxBEg8xgfAPGL3JTE"
    # pragma: allowlist nextline secret
    "Ei5+oOhvA/YH9mX7fFhMpBqMzjALMT//b28g//A/UBWD+ZcP4pe+Fc9gDJsSI/vx5hXWvU2Sf1yNfbkLK6M7csqeME/s3225aUPdl0ta8p369w8+sVVb"
    # pragma: allowlist nextline secret
    "/+3/XbEC+ms0xaexxH7vdt7wu6Ee4WcXnuBX5JN7y1W+xf/pt9wNZuTZJ0BvfeT4rgAA36gabA=="
)


def hostile_images(scene: Image.Image) -> Iterator[Case]:
    """All of them; the damaged ones are made of one RGB image of a few hundred pixels a side."""
    yield from _no_images(scene)
    yield from _not_accepted(scene)
    yield from _truncated(scene)
    yield from _too_many_pixels()
    yield from _too_many_frames(scene)
    yield from _lies(scene)


def _no_images(scene: Image.Image) -> Iterator[Case]:
    jpeg = encoded(scene, "JPEG")
    texts = {
        "text.txt": b"hello, I am a text",
        "page.html": b"<!DOCTYPE html><html><body>404</body></html>",
        "drawing.svg": b"<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'/>",
        "document.pdf": b"%PDF-1.7\n1 0 obj<<>>endobj\n%%EOF",
        "image-in-a-document.pdf": b"%PDF-1.7\n" + jpeg + b"\n%%EOF",
        "postscript.eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n",
        "postscript-with-preview.eps": b"\xc5\xd0\xd3\xc6" + bytes(60) + jpeg,
        "film.mp4": b"\0\0\0\x18ftypmp42" + bytes(200),
        "iphone.heic": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(200),
        "archive.zip": b"PK\x03\x04" + jpeg,
        "zeros.bin": bytes(10_000),
        "noise.bin": np.random.default_rng(0).bytes(10_000),
        "sound.wav": b"RIFF\x24\0\0\0WAVEfmt " + bytes(20),
        "big.tiff": b"II+\0\x08\0\0\0" + bytes(40),
        "image-after-junk.jpg": b"\0" + jpeg,
    }
    yield Case("empty.jpg", b"", cause="empty")
    for name, data in texts.items():
        yield Case(name, data, cause=_UNKNOWN)
    for form in ("ICO", "JPEG2000", "PPM", "TGA", "DDS", "PCX", "SGI"):
        if form in Image.SAVE:
            yield Case(f"image.{form.lower()}", encoded(scene.resize((64, 64)), form), cause=_UNKNOWN)
    yield Case("script-as-a.gif", b"GIF89a=1;alert(1)/*" + bytes(100), cause=_DAMAGED)
    yield Case("signature.jpg", b"\xff\xd8\xff", cause=_DAMAGED)
    yield Case("signature.png", b"\x89PNG\r\n\x1a\n", cause=_DAMAGED)
    yield Case("letters.bmp", b"BMW is a car", cause=_DAMAGED)


def _not_accepted(scene: Image.Image) -> Iterator[Case]:
    """Accepted formats in forms that images do not have."""
    for mode, name in (("I", "integer"), ("F", "float")):
        yield Case(f"{name}.tiff", encoded(scene.convert(mode), "TIFF"), cause="32-bit samples")
    yield Case("arithmetic.jpg", _ARITHMETIC, cause="arithmetic-coded")
    bmp = encoded(scene.quantize(16), "BMP")
    yield Case("run-length.bmp", patched(bmp, 30, "<I", 1), cause="run-length-encoded")


def _truncated(scene: Image.Image) -> Iterator[Case]:
    files = {
        "jpg": encoded(scene, "JPEG"),
        "progressive.jpg": encoded(scene, "JPEG", progressive=True),
        "png": encoded(scene),
        "gif": encoded(scene, "GIF"),
        "lossy.webp": encoded(scene, "WEBP"),
        "lossless.webp": encoded(scene, "WEBP", lossless=True),
        "bmp": encoded(scene, "BMP"),
        "tiff": encoded(scene, "TIFF"),
        "lzw.tiff": encoded(scene, "TIFF", compression="tiff_lzw"),
    }
    if features.check("avif"):
        files["avif"] = encoded(scene, "AVIF", speed=10)
    for name, data in files.items():
        for tenth in range(1, 10):
            yield Case(f"{tenth}-tenths.{name}", data[: len(data) * tenth // 10], cause=_DAMAGED)


def _too_many_pixels() -> Iterator[Case]:
    line = b"\0" + bytes(50_000 // 8)
    packer = zlib.compressobj(1)
    rows = b"".join(packer.compress(line * 100) for _ in range(500)) + packer.flush()
    header = struct.pack(">IIBBBBB", 50_000, 50_000, 1, 0, 0, 0, 0)
    bomb = png((1, 1), 1, 0, b"\0\0")[:8] + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", rows)
    yield Case("bomb.png", bomb + png_chunk(b"IEND", b""), cause="pixels")
    yield Case("bomb.gif", gif((65_535, 65_535), [(0, 0, 1, 1)]), cause="pixels")
    yield Case("bomb-in-a-frame.gif", gif((1, 1), [(0, 0, 65_535, 65_535)]), cause="pixels")
    yield Case("just-too-large.gif", gif((8_000, 6_300), [(0, 0, 1, 1)]), cause=_PIXELS)
    lossless = encoded(Image.new("RGB", (8, 8)), "WEBP", lossless=True)
    yield Case("bomb.webp", patched(lossless, 21, "<I", 0x0FFF_FFFF), cause="pixels|damaged")
    canvas = b"\x10\0\0\0" + b"\xfe\x3f\0" * 2
    yield Case("bomb-canvas.webp", riff((b"VP8X", canvas), (b"VP8L", lossless[20:])), cause="pixels|damaged")
    tags = {256: (4, [60_000]), 257: (4, [60_000]), 258: (3, [8]), 259: (3, [8]), 262: (3, [1]), 273: (4, [8])}
    yield Case("bomb.tiff", tiff([tags | {279: (4, [2_000])}], zlib.compress(bytes(1_000_000), 9)), cause=_PIXELS)
    small = encoded(Image.new("RGB", (8, 8)), "JPEG")
    frame = small.index(b"\xff\xc0")
    yield Case("bomb.jpg", patched(small, frame + 5, ">HH", 65_500, 65_500), cause="pixels")
    bmp = encoded(Image.new("RGB", (8, 8)), "BMP")
    yield Case("bomb.bmp", patched(bmp, 18, "<II", 60_000, 60_000), cause="pixels")
    if features.check("avif"):
        avif = encoded(Image.new("RGB", (64, 64)), "AVIF", speed=10)
        extent = avif.index(b"ispe") + 8
        yield Case("bomb.avif", patched(avif, extent, ">II", 16_000, 16_000), cause="pixels|damaged")


def _too_many_frames(scene: Image.Image) -> Iterator[Case]:
    cause = "frames, more than the 1000 allowed"
    yield Case("frames.gif", gif((1, 1), [(0, 0, 1, 1)] * 1_001), cause=cause)
    control = (b"acTL", struct.pack(">II", 1_000_000_000, 0))
    yield Case("frames.png", png_with(encoded(scene), control), cause=cause)
    frame = bytes(16) + encoded(Image.new("RGB", (1, 1)), "WEBP", lossless=True)[12:]
    frames = [(b"ANMF", frame)] * 1_001
    animation = riff((b"VP8X", b"\x02" + bytes(9)), (b"ANIM", bytes(6)), *frames)
    yield Case("frames.webp", animation, cause=cause)
    page = {256: (3, [1]), 257: (3, [1]), 258: (3, [8]), 262: (3, [1]), 273: (4, [8]), 279: (4, [1])}
    yield Case("too-many-pages.tiff", tiff([page] * 1_001, b"\0"), cause=cause)
    yield Case("scans.jpg", jpeg_of_scans(7_000, 2_000), cause="2000 scans")


def _lies(scene: Image.Image) -> Iterator[Case]:
    """Headers that claim other sizes, and structures that claim more than there is."""
    height = scene.size[1]
    plain = encoded(scene)
    jpeg = encoded(scene, "JPEG")
    frame = jpeg.index(b"\xff\xc0")
    yield Case("no-size.jpg", patched(jpeg, frame + 5, ">HH", 0, 0), cause=_DAMAGED)
    yield Case("two-frames.jpg", jpeg[:frame] + jpeg[frame : frame + 19] + jpeg[frame:], cause="damaged")
    yield Case("segments.jpg", b"\xff\xd8" + b"\xff\xef\0\x02" * 100_000 + jpeg[2:], cause="segments")
    yield Case("pieces.png", png_with(plain, *[(b"teXt", b"")] * 60_000), cause="chunks")
    yield Case("pieces.webp", riff(*[(b"ABCD", b"")] * 60_000)[:12] + b"VP8X" + bytes(4) * 60_000 * 2, cause=_DAMAGED)
    bmp = encoded(scene, "BMP")
    yield Case("taller-than-its-data.bmp", patched(bmp, 22, "<I", height + 50), cause=_DAMAGED)
    yield from _lying_tiffs(scene)
    if features.check("avif"):
        # The container says 64x64; the stream in it has 8000x8000.
        large = zlib.decompress(_LARGE_AVIF)
        yield Case("larger-inside.avif", patched(large, large.index(b"ispe") + 8, ">II", 64, 64), cause=_PIXELS)
        yield Case("larger-frame.avif", zlib.decompress(_LARGE_FRAME), cause=_PIXELS)
        still = encoded(Image.new("RGB", (4_000, 4_000)), "AVIF", speed=10)
        yield Case("many-frames.avif", avif_of_frames(still, 40), cause="640000000 pixels in total")


def _lying_tiffs(scene: Image.Image) -> Iterator[Case]:
    page = {256: (4, [64]), 257: (4, [64]), 258: (3, [8]), 259: (3, [1]), 262: (3, [1]), 273: (4, [8])}
    data = bytes(64 * 64)
    yield Case("huge-tile.tiff", tiff([page | {322: (4, [60_000]), 323: (4, [60_000]), 324: (4, [8])}]), cause=_PIXELS)
    # 100 tiles of 5000x5000 pixels, of each of which one row is in the image.
    tile = zlib.compress(bytes(5_000 * 5_000), 9)
    tall = {256: (4, [500_000]), 257: (4, [1]), 259: (3, [8]), 322: (4, [5_000]), 323: (4, [5_000])}
    tall |= {324: (4, [8] * 100), 325: (4, [len(tile)] * 100)}
    yield Case("tall-tiles.tiff", tiff([{**page, **tall}], tile), cause=_PIXELS)
    tiny = {256: (4, [600]), 257: (4, [500]), 258: (3, [8]), 262: (3, [1]), 322: (3, [1]), 323: (3, [1])}
    yield Case("tiny-tiles.tiff", tiff([tiny | {324: (4, [8] * 300_000)}], bytes(1)), cause="tag 324 has 300000 values")
    # Each row is compressed to the same half megabyte, of which all bytes but the last two mean nothing.
    nothing = b"\x80" * 500_000 + b"\xc1\0"
    rows = {257: (4, [2_000]), 259: (3, [32_773]), 278: (3, [1]), 273: (4, [8] * 2_000)}
    rows |= {279: (4, [len(nothing)] * 2_000)}
    yield Case("strips-of-nothing.tiff", tiff([page | rows], nothing), cause="strips or tiles claim 1000004000 bytes")
    again = {278: (4, [63]), 273: (4, [8] * 10_000), 279: (4, [4_032] * 10_000)}
    yield Case("strip-again-and-again.tiff", tiff([page | again], data), cause="strips or tiles overlap")
    lie = patched(tiff([page], data), 8 + 64 * 64 + 2 + 12 * 5 + 4, "<II", 1_000_000_000, 8)
    yield Case("strips-beyond-the-end.tiff", lie, cause="tag 273 has 1000000000 values")
    deep = tiff_of(np.asarray(scene))
    yield Case("directory-beyond-the-end.tiff", patched(deep, 4, "<I", 0xFFFF_FFF0), cause=_DAMAGED)
    yield Case("two-widths.tiff", tiff([page | {256: (4, [64, 64])}], data), cause="must hold exactly one number")
