"""Images of every kind become bytes or pixels, or an error with a clear message."""

import io
import os
import re
import zipfile

import numpy as np
import pytest
from PIL import Image
from resnet_client import ImageError, InvalidImageError, images
from resnet_client.preprocessing import Limits, PreprocessConfig

PREPROCESSING = PreprocessConfig(resize=32, crop=24)
COLOURS = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)


@pytest.fixture
def png():
    return images.encoded(COLOURS)


@pytest.fixture
def file(tmp_path, png):
    path = tmp_path / "image.png"
    path.write_bytes(png)
    return path


def test_encoded_leaves_encoded_images_untouched(png, file):
    """Path, text, bytes, bytearray, memoryview and file object give the file's own bytes."""
    with os.scandir(os.fsencode(file.parent)) as entries:
        entry = next(entries)  # a path that is bytes
    sources = [file, str(file), entry, png, bytearray(png), memoryview(png), io.BytesIO(png)]
    assert images.describe(entry) == str(file)
    assert {images.encoded(source) for source in sources} == {png}


def test_encoded_has_no_loss(png):
    """An array and the PIL image made of it come out of the PNG as they went in."""
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(png))), COLOURS)
    assert images.encoded(Image.fromarray(COLOURS)) == png


def test_pixels_are_the_same_for_every_kind_of_source(png, file):
    expected = images.pixels(COLOURS, PREPROCESSING)
    assert (expected.shape, expected.dtype) == ((24, 24, 3), np.uint8)
    for source in (png, file, Image.fromarray(COLOURS), io.BytesIO(png)):
        assert np.array_equal(images.pixels(source, PREPROCESSING), expected)


def test_pixels_accepts_grey_and_alpha():
    """Arrays of shape (h, w) and (h, w, 4) are images too; alpha is ignored."""
    grey = COLOURS[..., 0]
    alpha = np.dstack([COLOURS, grey])
    assert np.array_equal(images.pixels(alpha, PREPROCESSING), images.pixels(COLOURS, PREPROCESSING))
    assert np.array_equal(images.pixels(grey, PREPROCESSING), images.pixels(np.dstack([grey] * 3), PREPROCESSING))


ARRAYS = r"\(height, width, 3\) RGB, \(height, width, 4\) .* \(height, width\) grey; .* of shape {}$"


def closed_file():
    stream = io.BytesIO(b"x")
    stream.close()
    return stream


def released_memory():
    view = memoryview(b"an image")
    view.release()
    return view


def damaged_archive_member():
    """A file object that raises what is not an OSError when it is read."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("cat.jpg", b"an image")
    return zipfile.ZipFile(io.BytesIO(buffer.getvalue().replace(b"an image", b"an other"))).open("cat.jpg")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("https://example.org/cat.jpg", "the client does not download images"),
        ("no/such/file.jpg", "there is no such file"),
        (".", "this is a folder"),
        ("", "^the path is empty; pass the path of an image$"),
        ("\0", "cannot be read"),
        (io.StringIO("text"), "mode 'rb'"),
        (42, "not int"),
        (None, "not NoneType"),
        (closed_file(), "cannot be read"),
        (released_memory(), "cannot be read"),
        *(
            (array, ARRAYS.format(re.escape(str(array.shape))))
            for array in (
                COLOURS.astype(np.float32),
                COLOURS.transpose(2, 0, 1),
                COLOURS[np.newaxis],
                COLOURS[:0],
                COLOURS[..., :2],
            )
        ),
        (damaged_archive_member(), r"^cat.jpg: the file object cannot be read \(Bad CRC"),
    ],
)
def test_encoded_refuses_unreadable_sources(source, message):
    """What cannot be read is an `ImageError` that names the source."""
    with pytest.raises(ImageError, match=message) as caught:
        images.encoded(source)
    assert caught.value.source


@pytest.mark.parametrize("box", [(5, 5, 5, 5), (5, 5, 9, 5), (5, 5, 5, 9)])
@pytest.mark.parametrize("convert", [images.encoded, lambda source: images.pixels(source, PREPROCESSING)])
def test_images_refuses_empty_images(box, convert):
    """A `PIL.Image` cut down to nothing, on either side."""
    with pytest.raises(InvalidImageError, match=r"the image is empty \([04]x[04] pixels\)"):
        convert(Image.fromarray(COLOURS).crop(box))


@pytest.mark.parametrize("kind", ["path", "bytes", "array", "image"])
def test_pixels_has_the_limits_of_the_server(kind, png, file):
    """Whatever the image comes as, what is too large is refused with the same message."""
    source = {"path": file, "bytes": png, "array": COLOURS, "image": Image.fromarray(COLOURS)}[kind]
    with pytest.raises(InvalidImageError, match="50x40 = 2000 pixels, more than the 1999 allowed"):
        images.pixels(source, PREPROCESSING, Limits(max_pixels=1_999))
    assert images.pixels(source, PREPROCESSING, Limits(max_pixels=2_000)).shape == (24, 24, 3)


def test_pixels_refuses_long_files_before_it_reads_them(tmp_path):
    path = tmp_path / "huge.jpg"
    with path.open("wb") as stream:
        stream.truncate(1 << 40)
    with pytest.raises(InvalidImageError, match=r"huge.jpg: the image has 1099511627776 bytes, more than"):
        images.pixels(path, PREPROCESSING)


def test_encoded_refuses_a_damaged_pil_image(png):
    """Pillow finds that only when it decodes."""
    with pytest.raises(InvalidImageError, match="damaged"):
        images.encoded(Image.open(io.BytesIO(png[:300])))


def test_pixels_refuses_what_is_not_a_file(odd_files):
    """At once, with the same message as for an image that is sent to the server."""
    for path, message in odd_files.items():
        for convert in (images.encoded, lambda source: images.pixels(source, PREPROCESSING)):
            with pytest.raises(ImageError, match=f"^{re.escape(message)}$"):
                convert(path)


def test_find_lists_images_by_suffix(tmp_path):
    """Below a folder too, in a stable order."""
    for name in ("b/2.JPG", "b/notes.txt", "a.png", "b/1.webp"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert [p.name for p in images.find(tmp_path)] == ["a.png", "1.webp", "2.JPG"]
