"""Images that are odd but good: every mode and format in which images come, and what else files carry."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

import numpy as np
from PIL import Image, ImageCms, features

from corpus import Case
from corpus.writers import (
    ORIENTATION,
    adam7,
    encoded,
    exif,
    gif_blocks,
    jpeg_of_scans,
    jpeg_with,
    many_tags,
    patched,
    png,
    png_chunk,
    png_rows,
    png_with,
    segment,
    tiff,
    tiff_of,
)

# How a image lies in the file when the camera was held so; EXIF's number turns it upright again.
_HELD = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
_LOSSY = 4.0
_XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'


def odd_images(scene: Image.Image) -> Iterator[Case]:
    """All of them, made of one RGB image of a few hundred pixels a side."""
    yield from usual_images(scene)
    yield from _sizes()
    yield from _carrying(scene)


def usual_images(scene: Image.Image) -> Iterator[Case]:
    """Those that are neither large nor carry much in addition to the image."""
    yield from _modes(scene)
    yield from _sixteen_bits(scene)
    yield from _jpegs(scene)
    yield from _orientations(scene)
    yield from _animations(scene)
    yield from _tiffs(scene)


def _modes(scene: Image.Image) -> Iterator[Case]:
    grey = scene.convert("L")
    alpha = Image.linear_gradient("L").resize(scene.size)
    palette = scene.quantize(64)
    colours = palette.convert("RGB")
    black_and_white = scene.convert("1")
    for form in ("PNG", "TIFF", "BMP", "GIF"):
        suffix = form.lower()
        yield Case(f"grey.{suffix}", encoded(grey, form), grey.convert("RGB"))
        yield Case(f"palette.{suffix}", encoded(palette, form), colours)
        yield Case(f"black-and-white.{suffix}", encoded(black_and_white, form), black_and_white.convert("RGB"))
        if form != "GIF":
            yield Case(f"rgb.{suffix}", encoded(scene, form), scene)
    transparent = scene.copy()
    transparent.putalpha(alpha)
    for form in ("PNG", "TIFF", "BMP"):
        yield Case(f"transparent.{form.lower()}", encoded(transparent, form), scene)
    grey_and_alpha = grey.copy()
    grey_and_alpha.putalpha(alpha)
    for form in ("PNG", "TIFF"):
        yield Case(f"grey-transparent.{form.lower()}", encoded(grey_and_alpha, form), grey.convert("RGB"))
    for form in ("PNG", "GIF"):
        yield Case(f"palette-one-transparent.{form.lower()}", encoded(palette, form, transparency=0), colours)
    yield Case("palette-transparent.png", encoded(palette, transparency=bytes(range(64))), colours)
    yield Case("few-colours.png", encoded(scene.quantize(4), bits=2), scene.quantize(4).convert("RGB"))
    lossless = {"lossless": True, "exact": True}
    yield Case("lossy.webp", encoded(scene, "WEBP", quality=95), scene, tolerance=_LOSSY)
    yield Case("lossless.webp", encoded(scene, "WEBP", **lossless), scene)
    yield Case("transparent.webp", encoded(transparent, "WEBP", **lossless), scene)
    if features.check("avif"):
        for name, image in {"rgb": scene, "grey": grey, "transparent": transparent}.items():
            seen = grey.convert("RGB") if name == "grey" else scene
            yield Case(f"{name}.avif", encoded(image, "AVIF", quality=95, speed=10), seen, tolerance=_LOSSY)


def _sixteen_bits(scene: Image.Image) -> Iterator[Case]:
    deep = np.asarray(scene).astype(np.uint16) * 257
    grey = np.asarray(scene.convert("L"))
    seen_grey = Image.fromarray(grey).convert("RGB")
    high = Image.fromarray(grey.astype(np.uint16) * 257)
    alpha = np.full((*grey.shape, 1), 40_000, np.uint16)
    yield Case("grey-16-bit.png", encoded(high), seen_grey)
    yield Case("grey-16-bit.tiff", encoded(high, "TIFF"), seen_grey)
    yield Case("rgb-16-bit.png", png(scene.size, 16, 2, png_rows(deep)), scene)
    yield Case("rgba-16-bit.png", png(scene.size, 16, 6, png_rows(np.dstack([deep, alpha]))), scene)
    grey_alpha = np.dstack([grey.astype(np.uint16) * 257, alpha])
    yield Case("grey-alpha-16-bit.png", png(scene.size, 16, 4, png_rows(grey_alpha)), seen_grey)
    yield Case("interlaced.png", png(scene.size, 8, 2, adam7(np.asarray(scene)), interlaced=True), scene)
    for order, name in (("<", "little"), (">", "big")):
        yield Case(f"rgb-16-bit-{name}-endian.tiff", tiff_of(deep, order=order), scene)


def _jpegs(scene: Image.Image) -> Iterator[Case]:
    ink = scene.convert("CMYK")
    yield Case("grey.jpg", encoded(scene.convert("L"), "JPEG", quality=95), scene.convert("L").convert("RGB"))
    # Pillow writes CMYK as Adobe does: inverted, with Adobe's mark.
    yield Case("cmyk-inverted.jpg", encoded(ink, "JPEG", quality=95), scene, tolerance=_LOSSY)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    options = {
        "ycbcr": {},
        "rgb": {"keep_rgb": True},
        "progressive": {"progressive": True},
        "subsampled": {"subsampling": 2},
        "with-profile": {"icc_profile": profile * 60},
        "with-restarts": {"restart_marker_blocks": 3},
        "with-comment": {"comment": b"x" * 60_000},
    }
    for name, option in options.items():
        yield Case(f"{name}.jpg", encoded(scene, "JPEG", quality=95, **option), scene, tolerance=_LOSSY)


def _orientations(scene: Image.Image) -> Iterator[Case]:
    for orientation, held in _HELD.items():
        lying = scene if held is None else scene.transpose(held)
        for form in ("JPEG", "PNG", "WEBP", "TIFF"):
            name = f"orientation-{orientation}.{form.lower()}"
            yield Case(name, encoded(lying, form, exif=exif(orientation), quality=95), scene, tolerance=_LOSSY)
        if features.check("avif"):
            turned = encoded(lying, "AVIF", exif=exif(orientation), quality=95, speed=10)
            yield Case(f"orientation-{orientation}.avif", turned, scene, tolerance=_LOSSY)
    lying = scene.transpose(_HELD[6])
    jpeg = jpeg_with(encoded(lying, "JPEG", quality=95), segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + _XMP))
    yield Case("orientation-in-xmp.jpg", jpeg, scene, tolerance=_LOSSY)
    text = (b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + _XMP)
    yield Case("orientation-in-xmp.png", png_with(encoded(lying), text), scene)
    nonsense = Image.Exif()
    nonsense[ORIENTATION] = 77
    yield Case("orientation-77.jpg", encoded(scene, "JPEG", quality=95, exif=nonsense), scene, tolerance=_LOSSY)


def _animations(scene: Image.Image) -> Iterator[Case]:
    others = [Image.new("RGB", scene.size, colour) for colour in ("red", "blue")]
    still = scene.quantize(64).convert("RGB")
    animated = {"save_all": True, "append_images": others, "duration": 50}
    yield Case("animated.gif", encoded(still, "GIF", **animated), still, tolerance=_LOSSY)
    yield Case("animated.webp", encoded(scene, "WEBP", lossless=True, **animated), scene)
    yield Case("animated.png", encoded(scene, "PNG", **animated), scene)
    yield Case("pages.tiff", encoded(scene, "TIFF", **animated), scene)
    if features.check("avif"):
        yield Case("animated.avif", encoded(scene, "AVIF", quality=95, speed=10, **animated), scene, tolerance=_LOSSY)


def _tiffs(scene: Image.Image) -> Iterator[Case]:
    for compression in ("tiff_lzw", "tiff_adobe_deflate", "tiff_deflate", "packbits"):
        yield Case(f"{compression}.tiff", encoded(scene, "TIFF", compression=compression), scene)
    yield Case("jpeg.tiff", encoded(scene, "TIFF", compression="jpeg", quality=95), scene, tolerance=_LOSSY)
    fax = scene.convert("1")
    yield Case("fax.tiff", encoded(fax, "TIFF", compression="group4"), fax.convert("RGB"))
    yield Case("cmyk.tiff", encoded(scene.convert("CMYK"), "TIFF"), scene)
    ycbcr = encoded(scene.convert("YCbCr"), "TIFF", compression="tiff_lzw")
    yield Case("ycbcr.tiff", ycbcr, scene)
    yield Case("tiles.tiff", tiff_of(np.asarray(scene), tile=64), scene)
    yield Case("big-endian.tiff", tiff_of(np.asarray(scene), order=">"), scene)


def _sizes() -> Iterator[Case]:
    colour = (10, 200, 30)
    for width, height in ((1, 1), (1, 10_000), (20_000, 1), (3, 2_000)):
        flat = Image.new("RGB", (width, height), colour)
        yield Case(f"{width}x{height}.png", encoded(flat), Image.new("RGB", (256, 256), colour))


def large_images(scene: Image.Image) -> Iterator[Case]:
    """The dearest that are accepted: about as many pixels as may be, in the formats that take most time and memory."""
    large = scene.resize((8_000, 6_290))
    alpha = large.convert("LA")
    forms: dict[str, tuple[str, dict[str, object]]] = {
        "progressive.jpg": ("JPEG", {"quality": 90, "subsampling": 0, "progressive": True}),
        "turned.jpg": ("JPEG", {"exif": exif(3)}),
        "lossy.webp": ("WEBP", {"quality": 60, "method": 0}),
    }
    if features.check("avif"):
        forms["rgb.avif"] = ("AVIF", {"quality": 30, "speed": 10})
    for name, (form, options) in forms.items():
        seen = large.transpose(_HELD[3]) if "turned" in name else large
        yield Case(f"50-megapixels-{name}", encoded(large, form, **options), seen, tolerance=_LOSSY)
    yield Case("50-megapixels-alpha.png", encoded(alpha, compress_level=1), large.convert("L").convert("RGB"))
    grey = Image.new("RGB", (256, 256), (128, 128, 128))
    yield Case("49-megapixels-50-scans.jpg", jpeg_of_scans(7_000, 50), grey)


def _carrying(scene: Image.Image) -> Iterator[Case]:
    """Good images with metadata that would keep a trusting decoder busy, and with other files behind them."""
    plain, lossless = encoded(scene, "JPEG", quality=95), encoded(scene)
    yield from _lying(scene)
    still = scene.quantize(64)
    absurd = many_tags(4_000, 10_000)
    jpegs = {
        "absurd-exif": jpeg_with(plain, segment(0xE1, b"Exif\0\0" + absurd)),
        "damaged-exif": jpeg_with(plain, segment(0xE1, b"Exif\0\0II*\0\xff\xff\xff\xff")),
        "much-exif": jpeg_with(plain, *[segment(0xE1, b"Exif\0\0" + bytes(60_000))] * 40),
        "exif-in-pieces": jpeg_with(plain, *[segment(0xE1, b"Exif\0\0" + b"x")] * 40_000),
        "fill-bytes": jpeg_with(plain, b"\xff" * 1_000_000),
        "junk-between": jpeg_with(plain, segment(0xEF, b""), b"\0" * 1_000_000),
        "many-segments": jpeg_with(plain, segment(0xEF, b"") * 40_000),
        "with-a-film": plain + b"\0\0\0\x18ftypmp42" + np.random.default_rng(0).bytes(500_000),
        "with-an-archive": plain + b"PK\x03\x04" + bytes(1_000),
    }
    for name, data in jpegs.items():
        yield Case(f"{name}.jpg", data, scene, tolerance=_LOSSY)
    bomb = png_bomb()
    pngs = {
        "text-bomb": png_with(lossless, (b"zTXt", b"Comment\0\0" + bomb)),
        "profile-bomb": png_with(lossless, (b"iCCP", b"profile\0\0" + bomb)),
        "absurd-exif": png_with(lossless, (b"eXIf", many_tags(20_000, 1_000_000))),
        "absurd-xmp": png_with(lossless, (b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + b"<" * 3_000_000)),
        "many-chunks": png_with(lossless, *[(b"teXt", b"")] * 40_000),
        "with-a-page": lossless + b"<script>alert(1)</script>",
    }
    for name, data in pngs.items():
        yield Case(f"{name}.png", data, scene)
    comment = b"!\xfe" + gif_blocks(b"x" * 500_000, size=1)
    gif = encoded(still, "GIF")
    header = 13 + 3 * 64
    yield Case("absurd-comment.gif", gif[:header] + comment + gif[header:], still.convert("RGB"))
    yield from _absurd_tags(scene)


def _absurd_tags(scene: Image.Image) -> Iterator[Case]:
    """Tags that expand: a number given 250,000 times, and 300 tags that all claim the same megabyte."""
    orientation = struct.pack("<HHII", ORIENTATION, 5, 250_000, 8)
    block = b"II*\0" + struct.pack("<I", 2_000_008) + bytes(2_000_000) + b"\1\0" + orientation + bytes(4)
    harmless = block.replace(orientation, struct.pack("<HHII", 40_000, 5, 250_000, 8))  # Pillow would read the other
    for form in ("WEBP", "AVIF") if features.check("avif") else ("WEBP",):
        data = encoded(scene, form, exif=harmless, quality=95).replace(harmless, block)
        yield Case(f"absurd-orientation.{form.lower()}", data, scene, tolerance=_LOSSY)
    packed = zlib.compress(scene.convert("L").tobytes())
    page = {256: (3, [scene.width]), 257: (3, [scene.height]), 258: (3, [8]), 259: (3, [8]), 262: (3, [1])}
    page |= {273: (4, [8]), 278: (3, [scene.height]), 279: (4, [len(packed)])}
    many = tiff([page | {40_000 + tag: (7, bytes(4)) for tag in range(300)}], packed + bytes(1_000_000))
    same = many.replace(struct.pack("<HII", 7, 4, 0), struct.pack("<HII", 7, 1_000_000, 8))
    yield Case("many-tags.tiff", same, scene.convert("L").convert("RGB"))


def _lying(scene: Image.Image) -> Iterator[Case]:
    """Sizes that do not fit what is there, but that every viewer puts up with."""
    width, height = scene.size
    taller = Image.new("RGB", (width, height + 50))
    taller.paste(scene)
    plain = encoded(scene)
    header = struct.pack(">IIBBBBB", width, height + 50, 8, 2, 0, 0, 0)
    yield Case("taller-than-its-data.png", plain[:8] + png_chunk(b"IHDR", header) + plain[33:], taller)
    if features.check("avif"):
        larger = encoded(scene, "AVIF", quality=95, speed=10)
        extent = larger.index(b"ispe") + 8
        half = patched(larger, extent, ">II", width // 2, height // 2)
        yield Case("shrunk-by-its-container.avif", half, scene.resize((width // 2, height // 2)), tolerance=_LOSSY)


def png_bomb() -> bytes:
    """A hundred kilobytes that expand to 100 MB."""
    packer = zlib.compressobj(1)
    return b"".join(packer.compress(bytes(1_000_000)) for _ in range(100)) + packer.flush()
