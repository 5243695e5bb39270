"""Resizing in vector instructions: Pillow's pixels but for rounding, and Pillow where that cannot be relied on."""

import importlib.util
import logging
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from resnet_client.preprocessing import resampling

WHOLE = (0.0, 0.0, 640.0, 480.0)

needs_library = pytest.mark.skipif(
    importlib.util.find_spec("cykooz_resizer") is None, reason="cykooz-resizer has no wheel for this platform"
)


@pytest.fixture
def fresh():
    """The module as another process would import it: it looks for the library again."""
    spec = importlib.util.spec_from_file_location("fresh_resampling", resampling.__file__)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def noise(width, height, mode="RGB", seed=0):
    """What rounding errors show most in."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels).convert(mode)


def pillow(image, size, box):
    return np.asarray(image.resize(size, Image.Resampling.BILINEAR, box=box)).astype(int)


@needs_library
@settings(max_examples=80, deadline=None)
@given(
    st.integers(1, 900),
    st.integers(1, 900),
    st.integers(1, 300),
    st.tuples(*[st.floats(0, 1)] * 4),
    st.sampled_from(["RGB", "L"]),
)
def test_resample_returns_pillows_pixels_for_any_part_of_any_image(width, height, side, part, mode):
    """Larger and smaller, tiny, narrow, a fraction of a pixel: no value is more than 2 of 255 away."""
    left, right = sorted((part[0] * width, part[1] * width))
    top, bottom = sorted((part[2] * height, part[3] * height))
    box = (left, top, max(right, min(left + 0.01, width)), max(bottom, min(top + 0.01, height)))
    if box[2] - box[0] < 0.001 or box[3] - box[1] < 0.001:
        box = (0.0, 0.0, float(width), float(height))
    image = noise(width, height, mode)
    vectorised = np.asarray(resampling.resample(image, (side, side), "bilinear", box)).astype(int)
    assert np.abs(vectorised - pillow(image, (side, side), box)).max() <= 2


@needs_library
def test_resample_does_not_mix_images_of_several_threads():
    images = [noise(200 + 37 * number, 150 + 11 * number, seed=number) for number in range(12)]
    boxes = [(0.0, 0.0, float(image.width), float(image.height)) for image in images]
    alone = [
        np.asarray(resampling.resample(image, (64, 64), "bilinear", box))
        for image, box in zip(images, boxes, strict=True)
    ]
    with ThreadPoolExecutor(8) as pool:
        jobs = [
            pool.submit(resampling.resample, images[number % 12], (64, 64), "bilinear", boxes[number % 12])
            for number in range(600)
        ]
        assert all(np.array_equal(job.result(), alone[number % 12]) for number, job in enumerate(jobs))


@needs_library
def test_resample_leaves_out_a_library_that_misreads_images(fresh, monkeypatch, caplog):
    """Another layout in memory would give wrong pixels without an error; so it has to show what it does first."""
    import cykooz_resizer

    def misread(_, source, target, options):
        target.paste(source.transpose(Image.Transpose.FLIP_LEFT_RIGHT).resize(target.size))

    monkeypatch.setattr(cykooz_resizer.Resizer, "resize_pil", misread)
    image = noise(640, 480)
    with caplog.at_level(logging.WARNING):
        resized = [fresh.resample(image, (50, 40), "bilinear", WHOLE) for _ in range(2)]
    assert np.array_equal(np.asarray(resized[1]), pillow(image, (50, 40), WHOLE))
    assert [record.getMessage().split(":")[0] for record in caplog.records] == [
        "cykooz-resizer is not used, so preprocessing is slower"
    ]
