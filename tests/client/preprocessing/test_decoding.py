"""From an encoded image to pixels: they are torchvision's, and what is not an image is refused with a message."""

import io
import zlib

import numpy as np
import pytest
from corpus.writers import encoded, exif, tiff
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps, PngImagePlugin
from resnet_client.preprocessing import InvalidImageError, PreprocessConfig, crop_pixels, decode, prepare

from .expected import torchvision_pixels

V1, V2 = PreprocessConfig(resize=256, crop=224), PreprocessConfig(resize=232, crop=224)
# timm's a1_in1k: 0.95 of the short side.
A1 = PreprocessConfig(resize=235, crop=224, interpolation="bicubic")


@pytest.mark.parametrize("preprocess_config", [V1, V2, A1], ids=["v1", "v2", "a1"])
def test_prepare_returns_torchvisions_pixels(images, preprocess_config):
    """But for rounding: 0.3 of 255 on average, never above 2."""
    for path in images.values():
        expected = torchvision_pixels(Image.open(path).convert("RGB"), preprocess_config)
        difference = np.abs(prepare(path.read_bytes(), preprocess_config) - expected)
        assert difference.mean() < 0.3, path
        assert difference.max() <= 2, path


@pytest.mark.parametrize("size", [(333, 500), (275, 348), (500, 375)])
def test_crop_pixels_resizes_bicubically_in_torchvisions_order(size):
    """Rows first, also for the part of a portrait: the filter overshoots, and what is clipped depends on the order."""
    width, height = size
    checks = (np.indices((height, width)).sum(0) // 3 % 2 * 255).astype(np.uint8)
    image = Image.fromarray(np.stack([checks] * 3, axis=2))
    assert np.abs(crop_pixels(image, A1) - torchvision_pixels(image, A1)).max() <= 2


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 700), st.integers(1, 700), st.sampled_from([V1, V2, A1]), st.integers(0, 99))
def test_crop_pixels_returns_torchvisions_pixels_for_any_size(width, height, preprocess_config, seed):
    """Tiny, odd and narrow sizes included."""
    if max(width, height) > 40 * min(width, height):
        width = height = max(width, height)  # torchvision would make a gigapixel of these
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    image = Image.fromarray(noise)
    difference = np.abs(
        crop_pixels(image, preprocess_config).astype(int) - torchvision_pixels(image, preprocess_config)
    )
    assert difference.mean() < 0.5


def in_text(keyword, text, **options):
    """A PNG with a text chunk, as ImageMagick and Exiv2 write them."""
    chunks = PngImagePlugin.PngInfo()
    (chunks.add_itxt if "lang" in options else chunks.add_text)(keyword, text, **options)
    return encoded(Image.effect_noise((30, 20), 90).convert("RGB"), pnginfo=chunks)


@pytest.mark.parametrize("options", [{}, {"zip": True}, {"lang": ""}, {"lang": "", "zip": True}])
@pytest.mark.parametrize("keyword", ["Raw profile type exif", "XML:com.adobe.xmp", "Comment"])
@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_decode_applies_the_orientation_in_text_chunks_of_png(keyword, options, orientation):
    """As Pillow does."""
    profile = exif(orientation)
    texts = {
        "Raw profile type exif": f"\nexif\n{len(profile):8}\n{profile.hex()}\n",
        "XML:com.adobe.xmp": f'<rdf:Description tiff:Orientation="{orientation}"/>',
    }
    content = in_text(keyword, texts.get(keyword, "text"), **options)
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(content)))
    assert expected.size == ((20, 30) if orientation == 6 and keyword in texts else (30, 20))
    assert np.array_equal(decode(content), expected)


def tiff_of_depth(bits, samples=1, order="<", photometric=1, compression=1):
    """A TIFF of zeros, then ones; all tags that Pillow needs."""
    row = 64 * bits * samples // 8
    data = bytes(row * 32) + b"\xff" * row * 32
    data = zlib.compress(data) if compression == 8 else data
    numbers = {256: [64], 257: [64], 258: [bits] * samples, 259: [compression], 262: [photometric], 277: [samples]}
    tags = {tag: (3, values) for tag, values in numbers.items()} | {
        273: (4, [8]),
        278: (3, [64]),
        279: (4, [len(data)]),
    }
    return tiff([tags], data, order=order)


@pytest.mark.parametrize("compression", [1, 8])
@pytest.mark.parametrize("bits", [8, 12, 16])
def test_decode_scales_grey_tiffs_to_8_bits(bits, compression):
    pixels = np.asarray(decode(tiff_of_depth(bits, compression=compression)))
    assert (pixels[:32] == 0).all()
    assert (pixels[32:] == 255).all()


@pytest.mark.parametrize(
    ("bits", "options"),
    [
        (10, {}),
        (14, {}),
        (24, {}),
        (64, {}),
        *((12, options) for options in ({"samples": 3, "photometric": 2}, {"order": ">"}, {"photometric": 0})),
    ],
)
def test_decode_names_the_depth_of_other_tiffs(bits, options):
    """Instead of calling them damaged."""
    with pytest.raises(InvalidImageError, match=f"^the image has {bits}-bit samples; save it with 8 or 16 bits"):
        decode(tiff_of_depth(bits, **options))


def test_decode_names_an_avif_sequence_without_a_still_image():
    """With one, that is decoded."""
    frames = [Image.new("RGB", (64, 48), (40 * number, 100, 50)) for number in range(4)]
    sequence = encoded(frames[0], "AVIF", save_all=True, append_images=frames[1:])
    assert decode(sequence).size == (64, 48)
    with pytest.raises(InvalidImageError, match="^the image is an AVIF sequence without a still image; save one of"):
        decode(sequence.replace(b"meta", b"free", 1))
