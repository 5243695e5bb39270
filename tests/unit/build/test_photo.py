"""Preprocessing: the pixels are torchvision's, and what is no photo is refused with a sentence."""

from __future__ import annotations

import io
import re
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from corpus import Photo
from corpus.writers import jpeg_of_scans
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps
from resnet_client.preprocessing import (
    InvalidImageError,
    Limits,
    Recipe,
    crop_pixels,
    decode,
    pixels,
    prepare,
    to_rgb,
)
from resnet_client.preprocessing.limits import Room
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
    """Every shipped photo's pixels are torchvision's, but for rounding: 0.3 of 255 on average, never above 2."""
    for path in photos.values():
        expected = torchvision_pixels(Image.open(path).convert("RGB"), recipe).astype(int)
        difference = np.abs(prepare(path.read_bytes(), recipe) - expected)
        assert difference.mean() < 0.3, path
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
    assert np.abs(prepare(turned, V1) - expected).mean() < 0.3


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
        (b"hello, I am a text", "not an image in a known format"),
        (b"\xff\xd8\xff" + b"\0" * 40, "not an image|damaged"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image in a known format"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not an image in a known format"),
    ],
    ids=["empty", "text", "jpeg header only", "postscript", "svg"],
)
def test_what_is_no_photo_is_refused(photo: bytes, sentence: str) -> None:
    """The message names the cause."""
    with pytest.raises(InvalidImageError, match=sentence):
        decode(photo)


@pytest.mark.parametrize("mode", ["I", "F"])
def test_samples_of_unknown_range_are_refused(mode: str) -> None:
    """32-bit and floating-point pictures would be clipped to white or black."""
    with pytest.raises(InvalidImageError, match="save it with 8 or 16 bits"):
        decode(encoded(Image.new(mode, (8, 8), 1), "TIFF"))


def test_a_truncated_photo_is_refused(photos: dict[str, Path]) -> None:
    """Half a JPEG is not half an answer."""
    photo = photos["rocket"].read_bytes()
    with pytest.raises(InvalidImageError, match="damaged or truncated"):
        decode(photo[: len(photo) // 2])


@pytest.mark.parametrize(
    ("limits", "sentence"),
    [
        (Limits(max_bytes=100), "has [0-9]+ bytes, more than the 100 allowed.*--max-photo-bytes"),
        (Limits(max_pixels=1000), "200x100 pixels, more than the 1000 allowed.*--max-photo-pixels"),
        (Limits(max_frames=1), "has 2 frames, more than the 1 allowed.*--max-photo-frames"),
    ],
)
def test_what_is_above_a_limit_is_refused(limits: Limits, sentence: str) -> None:
    """The sentence names what was found, the limit and the remedy."""
    second = Image.new("RGB", (200, 100), "white")
    animation = encoded(Image.new("RGB", (200, 100)), "GIF", save_all=True, append_images=[second])
    assert decode(animation).size == (200, 100)
    with pytest.raises(InvalidImageError, match=sentence):
        decode(animation, limits)


def test_limits_survive_the_configuration() -> None:
    """What the build writes is what server and client read; older configurations have the defaults."""
    limits = Limits(max_bytes=1, max_pixels=2, max_frames=3)
    assert limits.to_parameters() == {"max_photo_bytes": "1", "max_photo_pixels": "2", "max_photo_frames": "3"}
    assert Limits.from_parameters({**limits.to_parameters(), "recipe": "{}"}) == limits
    assert Limits.from_parameters({}) == Limits()


@pytest.mark.parametrize("value", ["many", "", "0", "-1"])
def test_what_is_no_limit_is_refused(value: str) -> None:
    """A damaged limit is an error, not a lack of limits."""
    with pytest.raises(ValueError, match=r"."):
        Limits.from_parameters({"max_photo_pixels": value})


def test_the_corpus_is_answered_or_refused(corpus: list[Photo]) -> None:
    """Every odd photo gives the pixels of the picture that a person sees in it; every hostile one its sentence."""
    wrong = []
    for photo in corpus:
        try:
            found = prepare(photo.data, V1)
        except InvalidImageError as exc:
            if photo.seen or not re.search(photo.cause, str(exc)) or "image" not in str(exc):
                wrong.append(f"{photo.name} is refused: {exc}")
        else:
            seen = torchvision_pixels(photo.seen, V1).astype(int) if photo.seen else 999
            if (difference := np.abs(found - seen).mean()) > photo.tolerance:
                wrong.append(f"{photo.name} is accepted; its pixels differ by {difference}")
    assert not wrong
    assert len({photo.name for photo in corpus}) == len(corpus) > 250


def test_checks_name_files_of_the_corpus(corpus: list[Photo]) -> None:
    """Each check that Pillow makes necessary says which file shows that, and the corpus has it."""
    sources = "".join(path.read_text(encoding="utf-8") for path in Path(pixels.__file__).parent.glob("*.py"))
    named = set(re.findall(r"[\w-]+\.(?:avif|bmp|gif|jpg|png|tiff|webp)\b", sources))
    assert named - {photo.name for photo in corpus} == set()
    assert len(named) > 15


@pytest.mark.filterwarnings("ignore:Palette images with Transparency")  # Pillow's, about its own plain opening
def test_the_corpus_looks_as_pillow_opens_it(corpus: list[Photo]) -> None:
    """What is accepted has torchvision's pixels of the picture that Pillow opens and turns upright."""
    checked = 0
    for photo in corpus:
        if photo.seen is None or photo.seen.size != (240, 160):
            continue
        try:
            opened = ImageOps.exif_transpose(Image.open(io.BytesIO(photo.data)))
        except Exception:  # noqa: BLE001, S112  # Pillow refuses what everybody else shows
            continue
        if not opened.mode.startswith("I;16"):  # these Pillow clips
            expected = torchvision_pixels(opened.convert("RGB"), V1).astype(int)
            assert np.abs(prepare(photo.data, V1) - expected).mean() <= 2, photo.name
            checked += 1
    assert checked > 100


def test_scans_are_counted_in_the_picture_only() -> None:
    """Markers in thumbnails and behind the end are no scans; 50 scans pass, 51 do not."""
    assert decode(jpeg_of_scans(64, 50) + b"\xff\xda" * 100).size == (64, 64)
    with pytest.raises(InvalidImageError, match="51 scans, more than the 50 allowed"):
        decode(jpeg_of_scans(64, 51))


def test_photos_wait_for_room() -> None:
    """Small photos share the room; a large one waits for them, and what comes later waits behind it."""
    room, limits, order = Room(), Limits(max_pixels=100), []

    def take(name: str, pixels: int) -> threading.Thread:
        def run() -> None:
            with room.take(pixels, limits):
                order.append(name)

        thread = threading.Thread(target=run)
        thread.start()
        return thread

    with room.take(60, limits), room.take(40, limits):
        large = take("large", 100)
        while not room._first_in_line.locked():
            time.sleep(0.001)
        small = take("small", 1)
        assert not order
    for thread in (large, small):
        thread.join(10)
    assert order == ["large", "small"]
    with room.take(1_000, limits):  # alone, whatever its size: limits refuse elsewhere
        pass


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
