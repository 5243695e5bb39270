"""Large JPEGs, which are decoded at a half, a quarter or an eighth: near torchvision's pixels, and refused as ever."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from corpus.writers import encoded, exif
from PIL import Image
from resnet_client.preprocessing import (
    InvalidImageError,
    Limits,
    Recipe,
    crop_pixels,
    decode,
    pixels,
    prepare,
)
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as F  # noqa: N812  # torchvision's own convention

# A small one, so that photos of a few megapixels are large.
RECIPE = Recipe(resize=64, crop=56)
# Width and height of photos that are decoded at a half, a quarter, an eighth; none a multiple of 8.
SIZES = [(1297, 977), (1_403, 1_999), (3_999, 2_601)]
# Mean difference, of 255; docs/preprocessing.md promises 2.
MOST = 1.2
HELD = {3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE}


def torchvision_pixels(image: Image.Image, recipe: Recipe = RECIPE) -> np.ndarray:
    """The steps of ``transforms.ImageClassification`` before normalisation, on the whole picture."""
    resized = F.resize(image, [recipe.resize], InterpolationMode(recipe.interpolation), antialias=True)
    return np.asarray(F.center_crop(resized, [recipe.crop, recipe.crop])).astype(int)


@pytest.fixture(scope="module")
def coffee(photos: dict[str, Path]) -> Image.Image:
    """A photo with fine and coarse detail."""
    return Image.open(photos["coffee"]).convert("RGB")


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_reduced_photos_keep_the_bound(photos: dict[str, Path], size: tuple[int, int]) -> None:
    """Enlarged and encoded anew, every shipped photo keeps torchvision's pixels but for about 1 of 255."""
    for path in photos.values():
        photo = encoded(Image.open(path).convert("RGB").resize(size), "JPEG", quality=85)
        difference = np.abs(prepare(photo, RECIPE) - torchvision_pixels(decode(photo)))
        assert 0 < difference.mean() < MOST, path


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
def test_every_kind_of_jpeg_can_be_reduced(coffee: Image.Image, options: dict[str, object]) -> None:
    """Subsampling, colours, scans and quality make no difference."""
    mode = str(options.get("mode", "RGB"))
    rest = {name: value for name, value in options.items() if name != "mode"}
    photo = encoded(coffee.resize(SIZES[1]).convert(mode), "JPEG", **rest)
    assert 0 < np.abs(prepare(photo, RECIPE) - torchvision_pixels(decode(photo))).mean() < MOST


@pytest.mark.parametrize("orientation", HELD)
def test_reduced_photos_are_turned(coffee: Image.Image, orientation: int) -> None:
    """A large photo that says how it was held is cut where the upright one is, to a fraction of a pixel."""
    lying = coffee.resize(SIZES[1]).transpose(HELD[orientation])
    photo = encoded(lying, "JPEG", exif=exif(orientation), quality=95)
    upright = decode(photo)
    assert upright.size == SIZES[1]
    assert np.abs(prepare(photo, RECIPE) - torchvision_pixels(upright)).mean() < MOST


def test_photos_of_usual_size_are_not_reduced(coffee: Image.Image) -> None:
    """What leaves less than enough at half its size is decoded whole, to the very same pixels."""
    for side in (300, 500, 2 * RECIPE.least_side - 1):
        photo = encoded(coffee.resize((side + 100, side)), "JPEG")
        assert np.array_equal(prepare(photo, RECIPE), crop_pixels(decode(photo), RECIPE)), side


@pytest.mark.parametrize("interpolation", ["nearest", "bicubic"])
def test_other_interpolations_keep_the_bound(coffee: Image.Image, interpolation: str) -> None:
    """What a fine-tuned network was trained with decides how much may be left out: for single pixels nothing."""
    recipe = dataclasses.replace(RECIPE, interpolation=interpolation)
    photo = encoded(coffee.resize(SIZES[1]), "JPEG", quality=85)
    assert np.abs(prepare(photo, recipe) - torchvision_pixels(decode(photo), recipe)).mean() < MOST


@pytest.mark.parametrize("progressive", [False, True])
def test_truncated_photos_are_refused_as_whole_ones_are(coffee: Image.Image, progressive: bool) -> None:
    """Half a large JPEG is refused with the sentence that it would get if it were decoded whole."""
    photo = encoded(coffee.resize(SIZES[0]), "JPEG", progressive=progressive)
    for tenth in range(1, 10):
        part = photo[: len(photo) * tenth // 10]
        sentence = outcome(decode, part)
        assert "damaged or truncated" in sentence
        assert outcome(lambda data: prepare(data, RECIPE), part) == sentence


@pytest.mark.parametrize("progressive", [False, True])
def test_damaged_photos_are_judged_as_whole_ones_are(coffee: Image.Image, progressive: bool) -> None:
    """Bytes that were changed anywhere are refused with the same sentence, or passed, at every size."""
    photo = encoded(coffee.resize(SIZES[0]), "JPEG", progressive=progressive)
    chance = np.random.default_rng(0)
    outcomes = []
    for _ in range(60):
        damaged = bytearray(photo)
        for place in chance.integers(2, chance.choice([700, len(photo)]), 3):
            damaged[place] = chance.integers(256)
        outcomes.append((outcome(decode, bytes(damaged)), outcome(lambda data: prepare(data, RECIPE), bytes(damaged))))
    assert [whole for whole, _ in outcomes] == [reduced for _, reduced in outcomes]
    assert len({whole for whole, _ in outcomes}) > 3


def outcome(judge: Callable[[bytes], object], photo: bytes) -> str:
    """The sentence that refuses the photo; nothing if it is accepted."""
    try:
        judge(photo)
    except InvalidImageError as exc:
        return str(exc)
    return ""


def test_limits_hold_for_the_size_that_a_photo_has(coffee: Image.Image) -> None:
    """Not for the one that it is decoded at."""
    photo = encoded(coffee.resize(SIZES[0]), "JPEG")
    with pytest.raises(InvalidImageError, match="1297x977 pixels, more than the 700000 allowed"):
        prepare(photo, RECIPE, Limits(max_pixels=700_000))


def test_room_is_taken_for_what_is_held_in_memory(coffee: Image.Image, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reduced JPEG takes less; one in several scans takes what it would whole: libjpeg holds all coefficients."""
    taken = []

    class Room:
        @contextlib.contextmanager
        def take(self, count: int, _: Limits) -> Iterator[None]:
            taken.append(count)
            yield

    monkeypatch.setattr(pixels, "_room", Room())
    large = coffee.resize(SIZES[0])
    for options in ({}, {"progressive": True}):
        prepare(encoded(large, "JPEG", **options), RECIPE)
    assert taken == [649 * 489, 1297 * 977]
