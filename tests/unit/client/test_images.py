"""Photos of every kind become bytes or pixels, or a clear sentence."""

import io
import os
import zipfile

import numpy as np
import pytest
from PIL import Image
from resnet_client import ImageError, InvalidImageError, images
from resnet_client.preprocessing import Limits, Recipe

RECIPE = Recipe(resize=32, crop=24)
COLOURS = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)


@pytest.fixture
def png():
    """One picture, encoded."""
    return images.encoded(COLOURS)


@pytest.fixture
def file(tmp_path, png):
    """The same in a file."""
    path = tmp_path / "photo.png"
    path.write_bytes(png)
    return path


def test_encoded_photos_travel_untouched(png, file):
    """Path, text, bytes, bytearray, memoryview and file object give the file's own bytes."""
    with os.scandir(os.fsencode(file.parent)) as entries:
        entry = next(entries)  # a path that is bytes
    sources = [file, str(file), entry, png, bytearray(png), memoryview(png), io.BytesIO(png)]
    assert images.describe(entry) == str(file)
    assert {images.encoded(source) for source in sources} == {png}


def test_pictures_are_encoded_without_loss(png):
    """An array and the picture made of it come out of the PNG as they went in."""
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(png))), COLOURS)
    assert images.encoded(Image.fromarray(COLOURS)) == png


def test_pixels_do_not_depend_on_the_kind_of_source(png, file):
    """Every kind of source is cropped to the same pixels."""
    expected = images.pixels(COLOURS, RECIPE)
    assert (expected.shape, expected.dtype) == ((24, 24, 3), np.uint8)
    for source in (png, file, Image.fromarray(COLOURS), io.BytesIO(png)):
        assert np.array_equal(images.pixels(source, RECIPE), expected)


def test_greys_and_alpha_are_accepted():
    """Arrays of shape (h, w) and (h, w, 4) are pictures too; alpha is ignored."""
    grey = COLOURS[..., 0]
    alpha = np.dstack([COLOURS, grey])
    assert np.array_equal(images.pixels(alpha, RECIPE), images.pixels(COLOURS, RECIPE))
    assert np.array_equal(images.pixels(grey, RECIPE), images.pixels(np.dstack([grey] * 3), RECIPE))


@pytest.mark.parametrize(
    "array",
    [
        COLOURS.astype(np.float32),
        COLOURS.transpose(2, 0, 1),
        COLOURS[np.newaxis],
        COLOURS[:0],
        COLOURS[..., :2],
    ],
)
def test_other_arrays_are_refused(array):
    """The sentence says what is wanted and what was given."""
    with pytest.raises(
        ImageError, match=r"\(height, width, 3\), RGB, \(height, width, 4\), .* \(height, width\)"
    ) as caught:
        images.encoded(array)
    assert str(array.shape) in str(caught.value)


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("https://example.org/cat.jpg", "not fetched from the web"),
        ("no/such/file.jpg", "there is no such file"),
        (".", "this is a folder"),
        ("", "^the path is empty; pass the path of a photo$"),
        ("\0", "cannot be read"),
        (io.StringIO("text"), "mode 'rb'"),
        (42, "not int"),
        (None, "not NoneType"),
    ],
)
def test_unreadable_sources_give_a_sentence(source, sentence):
    """What cannot be read is an `ImageError` that names the source."""
    with pytest.raises(ImageError, match=sentence) as caught:
        images.encoded(source)
    assert caught.value.source


def test_closed_files_give_a_sentence():
    """A file object that was closed is an `ImageError`."""
    stream = io.BytesIO(b"x")
    stream.close()
    with pytest.raises(ImageError, match="cannot be read"):
        images.encoded(stream)


def test_damaged_archives_give_a_sentence():
    """What a file object raises when it is read is an `ImageError`, and its cause."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("cat.jpg", b"a photo")
    damaged = io.BytesIO(buffer.getvalue().replace(b"a photo", b"another"))
    with zipfile.ZipFile(damaged) as archive, archive.open("cat.jpg") as entry, pytest.raises(ImageError) as caught:
        images.encoded(entry)
    assert str(caught.value).startswith("cat.jpg: the file object cannot be read (Bad CRC")
    assert isinstance(caught.value.__cause__, zipfile.BadZipFile)


def test_released_memory_gives_a_sentence():
    """A memoryview that was released is an `ImageError`, which has a name all the same."""
    view = memoryview(b"a photo")
    view.release()
    with pytest.raises(ImageError, match="cannot be read") as caught:
        images.encoded(view)
    assert caught.value.source == "memoryview"


@pytest.mark.parametrize("box", [(5, 5, 5, 5), (5, 5, 9, 5), (5, 5, 5, 9)])
@pytest.mark.parametrize("convert", [images.encoded, lambda source: images.pixels(source, RECIPE)])
def test_empty_pictures_are_refused(box, convert):
    """A `PIL.Image` cut down to nothing is an `InvalidImageError` wherever it is preprocessed."""
    with pytest.raises(InvalidImageError, match=r"the picture is empty \([04]x[04] pixels\)"):
        convert(Image.fromarray(COLOURS).crop(box))


def test_pictures_that_cannot_be_encoded_are_refused():
    """What a program left in a picture's `info` and Pillow cannot write is an `InvalidImageError`."""
    picture = Image.fromarray(COLOURS)
    picture.info["icc_profile"] = "no bytes"
    with pytest.raises(InvalidImageError, match="cannot be encoded as PNG"):
        images.encoded(picture)


@pytest.mark.parametrize("content", [b"", b"no photo", "truncated"])
def test_local_preprocessing_refuses_what_is_no_photo(content, png):
    """Nothing of Pillow escapes; the error keeps it as its cause."""
    with pytest.raises(InvalidImageError, match="image"):
        images.pixels(png[:300] if content == "truncated" else content, RECIPE)


@pytest.mark.parametrize("kind", ["path", "bytes", "array", "picture"])
def test_local_preprocessing_has_the_limits_of_the_server(kind, png, file):
    """Whatever the photo comes as, what is too large is refused by the same sentence."""
    source = {"path": file, "bytes": png, "array": COLOURS, "picture": Image.fromarray(COLOURS)}[kind]
    with pytest.raises(InvalidImageError, match="50x40 pixels, more than the 1999 allowed"):
        images.pixels(source, RECIPE, Limits(max_pixels=1_999))
    assert images.pixels(source, RECIPE, Limits(max_pixels=2_000)).shape == (24, 24, 3)


def test_long_files_are_not_even_read(tmp_path):
    """The length of a file decides before its gigabytes are in memory."""
    path = tmp_path / "huge.jpg"
    with path.open("wb") as stream:
        stream.truncate(1 << 40)
    with pytest.raises(InvalidImageError, match=r"huge.jpg: the image has 1099511627776 bytes, more than"):
        images.pixels(path, RECIPE)


def test_damaged_pictures_are_found_when_they_are_decoded(png):
    """A `PIL.Image` whose file is truncated fails as `InvalidImageError`."""
    with pytest.raises(InvalidImageError, match="damaged"):
        images.encoded(Image.open(io.BytesIO(png[:300])))


@pytest.mark.parametrize("mode", ["I", "F"])
@pytest.mark.parametrize("convert", [images.encoded, lambda source: images.pixels(source, RECIPE)])
def test_samples_of_unknown_range_are_no_damage(mode, convert):
    """A picture that is refused for its samples is not called damaged."""
    with pytest.raises(InvalidImageError, match="^the image has 32-bit samples of unknown range"):
        convert(Image.new(mode, (40, 40)))


def test_folders_are_searched_by_suffix(tmp_path):
    """Photos are found below a folder in a stable order, other files are not."""
    for name in ("b/2.JPG", "b/notes.txt", "a.png", "b/1.webp"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert [p.name for p in images.find(tmp_path)] == ["a.png", "1.webp", "2.JPG"]
