"""From an encoded image to pixels: they are torchvision's, and what is not an image is refused with a message."""

import io

import numpy as np
import pytest
from corpus.writers import encoded, exif
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps
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


def test_crop_pixels_takes_no_memory_for_a_very_long_image():
    """A 1x10000 image is cropped without becoming half a gigapixel on the way."""
    image = Image.new("RGB", (1, 10_000), (10, 200, 30))
    assert (crop_pixels(image, V1) == (10, 200, 30)).all()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_prepare_applies_the_exif_orientation(images, orientation):
    turned = encoded(Image.open(images["flower"]), exif=exif(orientation))
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(turned)))
    assert np.abs(prepare(turned, V1) - torchvision_pixels(upright, V1)).mean() < 0.3


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "I;16"])
def test_decode_converts_every_mode_to_rgb(images, mode):
    """Grey, palette, transparent, print and 16-bit images become the RGB image that they show."""
    colour = Image.open(images["coffee"]).convert("RGB")
    if mode == "I;16":
        grey = np.asarray(colour.convert("L")).astype(np.uint16) * 257
        image, expected = Image.fromarray(grey), colour.convert("L").convert("RGB")
    else:
        image = colour.convert(mode)
        expected = image.convert("RGB")
    form = "TIFF" if mode == "CMYK" else "PNG"
    assert np.array_equal(np.asarray(decode(encoded(image, form))), np.asarray(expected))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b"hello, I am a text", "not an image in a known format"),
        (b"\xff\xd8\xff" + b"\0" * 40, "not an image|damaged"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image in a known format"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not an image in a known format"),
        # 32-bit and floating-point images would be clipped to white or black.
        (encoded(Image.new("I", (8, 8), 1), "TIFF"), "save it with 8 or 16 bits"),
        (encoded(Image.new("F", (8, 8), 1), "TIFF"), "save it with 8 or 16 bits"),
    ],
    ids=["empty", "text", "jpeg header only", "postscript", "svg", "32-bit", "floating-point"],
)
def test_decode_refuses_what_is_not_an_image(content, message):
    with pytest.raises(InvalidImageError, match=message):
        decode(content)
