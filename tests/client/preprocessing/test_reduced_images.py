"""Large JPEGs, which are decoded at a half, a quarter or an eighth: near torchvision's pixels, refused as if whole."""

import contextlib
import dataclasses

import numpy as np
import pytest
from corpus.writers import encoded, exif
from PIL import Image
from resnet_client.preprocessing import InvalidImageError, PreprocessConfig, crop_pixels, decode, prepare
from resnet_client.preprocessing.limits import Room

from .expected import torchvision_pixels

# A small one, so that images of a few megapixels are large.
PREPROCESSING = PreprocessConfig(resize=64, crop=56)
# Width and height of images that are decoded at a half, a quarter, an eighth; none a multiple of 8.
SIZES = [(1297, 977), (1_403, 1_999), (3_999, 2_601)]
# Mean difference, of 255; docs/preprocessing.md promises 2.
MOST = 1.2
HELD = {3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE}


@pytest.fixture(scope="module")
def coffee(images):
    return Image.open(images["coffee"]).convert("RGB")


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_prepare_keeps_reduced_images_near_torchvision(images, size):
    """Enlarged and encoded again, example images keep torchvision's pixels but for about 1 of 255."""
    for name in ("cat", "flower"):
        check_reduced(encoded(Image.open(images[name]).convert("RGB").resize(size), "JPEG", quality=85))


def check_reduced(data, preprocess_config=PREPROCESSING):
    """The pixels are near torchvision's for the whole image, and not all equal."""
    difference = np.abs(prepare(data, preprocess_config) - torchvision_pixels(decode(data), preprocess_config)).mean()
    assert (0 if preprocess_config.least_side else -1) < difference < MOST


JPEGS = {
    "444": {"subsampling": 0},
    "422": {"subsampling": 1},
    "grey": {"mode": "L"},
    "cmyk": {"mode": "CMYK"},
    "rgb": {"keep_rgb": True},
    "progressive": {"progressive": True},
    "restarts": {"restart_marker_blocks": 7},
    "poor": {"quality": 25},
}


@pytest.mark.parametrize("options", JPEGS.values(), ids=JPEGS)
def test_prepare_reduces_every_kind_of_jpeg(coffee, options):
    """Subsampling, colours, scans and quality make no difference."""
    mode = str(options.get("mode", "RGB"))
    rest = {name: value for name, value in options.items() if name != "mode"}
    check_reduced(encoded(coffee.resize(SIZES[1]).convert(mode), "JPEG", **rest))


@pytest.mark.parametrize("orientation", HELD)
def test_prepare_turns_reduced_images(coffee, orientation):
    """They are cut where the upright ones are, to a fraction of a pixel."""
    lying = coffee.resize(SIZES[1]).transpose(HELD[orientation])
    data = encoded(lying, "JPEG", exif=exif(orientation), quality=95)
    assert decode(data).size == SIZES[1]
    check_reduced(data)


def test_prepare_does_not_reduce_images_of_usual_size(coffee):
    """What leaves less than enough at half its size is decoded whole, to the very same pixels."""
    for side in (300, 500, 2 * PREPROCESSING.least_side - 1):
        data = encoded(coffee.resize((side + 100, side)), "JPEG")
        assert np.array_equal(prepare(data, PREPROCESSING), crop_pixels(decode(data), PREPROCESSING)), side


@pytest.mark.parametrize("interpolation", ["nearest", "bicubic"])
def test_prepare_keeps_reduced_images_near_torchvision_by_every_filter(coffee, interpolation):
    """What a fine-tuned network was trained with decides how much may be left out: for single pixels nothing."""
    preprocess_config = dataclasses.replace(PREPROCESSING, interpolation=interpolation)
    check_reduced(encoded(coffee.resize(SIZES[1]), "JPEG", quality=85), preprocess_config)


@pytest.mark.parametrize("progressive", [False, True])
def test_prepare_refuses_truncated_images_as_decode_does(coffee, progressive):
    """A part of a large JPEG gets the message that it would get if it were decoded whole."""
    data = encoded(coffee.resize(SIZES[0]), "JPEG", progressive=progressive)
    for tenth in range(1, 10):
        part = data[: len(data) * tenth // 10]
        assert "damaged or truncated" in outcome(decode, part)
        assert outcome(reduced, part) == outcome(decode, part)


def reduced(data):
    """Prepare an image, which may be decoded at a fraction of its size."""
    return prepare(data, PREPROCESSING)


def outcome(read, data):
    """The message that refuses the image; nothing if it is accepted."""
    try:
        read(data)
    except InvalidImageError as exc:
        return str(exc)
    return ""


def test_prepare_takes_room_for_what_is_held_in_memory(coffee, monkeypatch):
    """A reduced JPEG takes less; one in several scans takes what it would whole: libjpeg holds all coefficients."""
    taken = []

    @contextlib.contextmanager
    def take(_, count, __):
        taken.append(count)
        yield

    monkeypatch.setattr(Room, "take", take)
    large = coffee.resize(SIZES[0])
    for options in ({}, {"progressive": True}):
        prepare(encoded(large, "JPEG", **options), PREPROCESSING)
    assert taken == [649 * 489, 1297 * 977]
