"""Preprocessing: the pixels are torchvision's, and what is no photo is refused with a sentence."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps
from resnet_build.python_models.preprocess.photo import (
    PhotoError,
    Recipe,
    crop_pixels,
    decode,
    prepare,
    to_rgb,
)
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as F  # noqa: N812  # torchvision's own convention

V1, V2 = Recipe(resize=256, crop=224), Recipe(resize=232, crop=224)


def torchvision_pixels(image: Image.Image, recipe: Recipe) -> np.ndarray:
    """The steps of ``transforms.ImageClassification`` before normalisation, by torchvision's own functions."""
    resized = F.resize(image, [recipe.resize], InterpolationMode(recipe.interpolation), antialias=True)
    return np.asarray(F.center_crop(resized, [recipe.crop, recipe.crop]))


def encoded(image: Image.Image, form: str = "PNG", **options: object) -> bytes:
    """The image as a file's bytes."""
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("recipe", [V1, V2], ids=["v1", "v2"])
def test_shipped_photos_give_torchvisions_pixels(photos: dict[str, Path], recipe: Recipe) -> None:
    """Every shipped photo's pixels are torchvision's, but for rounding: 0.2 of 255 on average, never above 2."""
    for path in photos.values():
        expected = torchvision_pixels(Image.open(path).convert("RGB"), recipe).astype(int)
        difference = np.abs(prepare(path.read_bytes(), recipe) - expected)
        assert difference.mean() < 0.2, path
        assert difference.max() <= 2, path


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 700), st.integers(1, 700), st.sampled_from([V1, V2]), st.integers(0, 99))
def test_any_size_gives_torchvisions_pixels(width: int, height: int, recipe: Recipe, seed: int) -> None:
    """Pixels equal torchvision's for all sizes, tiny, odd and narrow ones included."""
    if max(width, height) > 40 * min(width, height):
        width = height = max(width, height)  # torchvision would make a gigapixel of these
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    image = Image.fromarray(noise)
    difference = np.abs(crop_pixels(image, recipe).astype(int) - torchvision_pixels(image, recipe))
    assert difference.mean() < 0.5


def test_a_very_long_photo_costs_no_memory() -> None:
    """A 1x10000 photo is cropped without becoming half a gigapixel on the way."""
    image = Image.new("RGB", (1, 10_000), (10, 200, 30))
    assert (crop_pixels(image, V1) == (10, 200, 30)).all()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(photos: dict[str, Path], orientation: int) -> None:
    """A photo that says how it was held gives the pixels of the upright one."""
    image = Image.open(photos["flower"])
    exif = Image.Exif()
    exif[0x0112] = orientation
    turned = encoded(image, "PNG", exif=exif)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(turned)))
    expected = torchvision_pixels(upright, V1).astype(int)
    assert np.abs(prepare(turned, V1) - expected).mean() < 0.2


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "I;16"])
def test_every_mode_becomes_rgb(photos: dict[str, Path], mode: str) -> None:
    """Grey, palette, transparent, print and 16-bit pictures are answered like the RGB picture they show."""
    colour = Image.open(photos["coffee"]).convert("RGB")
    if mode == "I;16":
        grey = np.asarray(colour.convert("L")).astype(np.uint16) * 257
        image, expected = Image.fromarray(grey), colour.convert("L").convert("RGB")
    else:
        image = colour.convert(mode)
        expected = image.convert("RGB")
    form = "TIFF" if mode == "CMYK" else "PNG"
    assert np.array_equal(np.asarray(decode(encoded(image, form))), np.asarray(expected))


def test_rgb_is_not_copied() -> None:
    """An upright RGB picture passes as it is."""
    image = Image.new("RGB", (8, 8))
    assert to_rgb(image).mode == "RGB"


@pytest.mark.parametrize(
    ("photo", "sentence"),
    [
        (b"", "empty"),
        (b"hello, I am a text", "not a photo in a known format"),
        (b"\xff\xd8\xff" + b"\0" * 40, "not a photo|damaged"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not a photo in a known format"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not a photo in a known format"),
    ],
    ids=["empty", "text", "jpeg header only", "postscript", "svg"],
)
def test_what_is_no_photo_is_refused(photo: bytes, sentence: str) -> None:
    """The message names the cause."""
    with pytest.raises(PhotoError, match=sentence):
        decode(photo)


@pytest.mark.parametrize("mode", ["I", "F"])
def test_samples_of_unknown_range_are_refused(mode: str) -> None:
    """32-bit and floating-point pictures would be clipped to white or black."""
    with pytest.raises(PhotoError, match="save it with 8 or 16 bits"):
        decode(encoded(Image.new(mode, (8, 8), 1), "TIFF"))


def test_a_truncated_photo_is_refused(photos: dict[str, Path]) -> None:
    """Half a JPEG is not half an answer."""
    photo = photos["rocket"].read_bytes()
    with pytest.raises(PhotoError, match="damaged or truncated"):
        decode(photo[: len(photo) // 2])


def test_too_many_pixels_are_refused_before_decoding() -> None:
    """The header's size decides, so that nothing large is decoded."""
    with pytest.raises(PhotoError, match="200x100 pixels, more than the 1000 allowed"):
        decode(encoded(Image.new("RGB", (200, 100))), max_pixels=1000)


def test_recipe_survives_its_json() -> None:
    """What the build writes is what the server and the client read."""
    assert Recipe.from_json(V2.to_json()) == V2
    assert Recipe.from_json(V2.to_json()).sha256 == V2.sha256
    assert V1.sha256 != V2.sha256


@pytest.mark.parametrize(
    "text", ['{"resize":1}', "[]", "3", '{"resize":200,"crop":224}', "{", '{"resize":9,"crop":9,"interpolation":"x"}']
)
def test_what_is_no_recipe_is_refused(text: str) -> None:
    """A damaged recipe is an error, not a wrong crop."""
    with pytest.raises(ValueError, match=r"."):
        Recipe.from_json(text)
