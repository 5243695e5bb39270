"""The images for validation and calibration: repeatable, different from each other, refused if they cannot be used."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from resnet_build import BuildError, images
from resnet_client.preprocessing import PreprocessConfig

PREPROCESSING = PreprocessConfig(resize=232, crop=224)


def test_sample_has_different_images() -> None:
    """Random crops make as many as the largest batch wants."""
    pixels = images.sample(40, 224)
    assert (pixels.shape, pixels.dtype) == ((40, 224, 224, 3), np.uint8)
    assert len({row.tobytes() for row in pixels}) == 40


def test_calibration_set_is_the_same_every_time() -> None:
    """A build can be repeated; calibration and evaluation have no crop in common."""
    first, second = images.calibration_set(None, PREPROCESSING), images.calibration_set(None, PREPROCESSING)
    assert first.sha256 == second.sha256
    assert first.calibration.shape == (images.CALIBRATION_COUNT, 224, 224, 3)
    assert first.calibration.dtype == np.uint8
    crops = {row.tobytes() for row in (*first.calibration, *first.evaluation)}
    assert len(crops) == len(first.calibration) + len(first.evaluation)


def test_calibration_set_spreads_over_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of many images, in order of their classes, some of every part are taken."""
    monkeypatch.setattr(images, "CALIBRATION_COUNT", 4)
    monkeypatch.setattr(images, "EVALUATION_COUNT", 4)
    (tmp_path / "class").mkdir()
    for value in range(20):
        Image.new("RGB", (30, 30), (10 * value, 0, 0)).save(tmp_path / "class" / f"{value:02}.png")
    found = images.calibration_set(tmp_path, PREPROCESSING)
    assert found.calibration[:, 0, 0, 0].tolist() == [0, 50, 100, 150]
    assert found.evaluation[:, 0, 0, 0].tolist() == [20, 70, 120, 170]
    assert found.source == f"8 images of {tmp_path.resolve()}"


def test_blocks_are_different_crops(tmp_path: Path) -> None:
    """The same ones every time, of images that are not used for calibration."""
    for number in range(8):
        pixels = np.random.default_rng(number).integers(0, 128, (80, 90, 3), dtype=np.uint8)
        Image.fromarray(pixels + 128 * (number % 2)).save(tmp_path / f"{number}.png")
    found = images.calibration_set(tmp_path, PreprocessConfig(resize=16, crop=16))
    first, *others = found.blocks()
    assert (len(others), first.shape, first.dtype) == (4, (100, 16, 16, 3), np.uint8)
    assert len({crop.tobytes() for block in (first, *others) for crop in block}) == 500
    assert first.min() >= 128 > found.calibration.max()
    np.testing.assert_array_equal(first, next(found.blocks()))


def test_calibration_set_refuses_bad_folders(tmp_path: Path) -> None:
    """The error names the folder, the number of images, or the file that is not one."""
    with pytest.raises(BuildError, match="does not exist"):
        images.calibration_set(tmp_path / "missing", PREPROCESSING)
    for number in range(8):
        with pytest.raises(BuildError, match=f"contains {number} images"):
            images.calibration_set(tmp_path, PREPROCESSING)
        (tmp_path / f"{number}.jpg").write_bytes(b"nothing")
    with pytest.raises(BuildError, match=r"the calibration image .*0\.jpg cannot be used"):
        images.calibration_set(tmp_path, PREPROCESSING)
