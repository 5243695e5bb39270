"""Validation lets equal exports and close variants pass, and refuses all others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from resnet_build import BuildError
from resnet_build.quantize.graph import Graph
from resnet_build.validate import Bounds, batches_to_check, check_exports, check_variant, compare, predict
from resnet_build.variants import open_network

Answer = tuple[np.ndarray, np.ndarray]


def eager(pixels: np.ndarray) -> Answer:
    """Stand in for a network: class 0 with 0.6, class 1 with 0.4."""
    return np.tile([0.6, 0.4], (len(pixels), 1)), np.ones((len(pixels), 4))


@pytest.fixture
def seven() -> np.ndarray:
    """Seven images."""
    return np.zeros((7, 2, 2, 3), dtype=np.uint8)


def test_check_exports_lets_equal_artifacts_pass(seven: np.ndarray) -> None:
    """Every artifact is checked at every batch, and the numbers come back."""
    results = check_exports(eager, {"a": eager, "b": eager}, seven, [1, 2, 7])
    assert [(result.artifact, result.batch) for result in results] == [(n, b) for b in (1, 2, 7) for n in "ab"]
    assert all(result.ok and result.max_probability_difference == 0 for result in results)


def test_check_exports_refuses_a_small_difference(seven: np.ndarray) -> None:
    """2e-4 is above the limit, and the message states it."""
    with pytest.raises(BuildError, match=r"skewed at batch 7: probabilities differ by at most 2.0e-04"):
        check_exports(eager, {"skewed": lambda x: (eager(x)[0] + np.array([2e-4, -2e-4]), eager(x)[1])}, seven, [7])


def test_check_exports_refuses_another_top1(seven: np.ndarray) -> None:
    """Swapped classes are refused."""
    with pytest.raises(BuildError, match="top-1 class differs for 2 images"):
        check_exports(eager, {"swapped": lambda x: (eager(x)[0][:, ::-1], eager(x)[1])}, seven, [2])


@pytest.mark.parametrize("wrong", [1.01, float("nan")])
def test_check_exports_refuses_other_features(seven: np.ndarray, wrong: float) -> None:
    """Features are served, too, so they have a bound; NaN exceeds it."""
    with pytest.raises(BuildError, match="features by"):
        check_exports(eager, {"rewired": lambda x: (eager(x)[0], wrong * eager(x)[1])}, seven, [2])


def test_check_exports_compares_features_that_are_all_zero(seven: np.ndarray) -> None:
    """The network is useless, but its export is right; an export with other features is refused."""
    dead = eager(seven)[0], np.zeros((7, 4))
    assert check_exports(lambda _: dead, {"dead": lambda _: dead}, seven, [7])[0].max_feature_difference == 0
    with pytest.raises(BuildError, match="features by"):
        check_exports(lambda _: dead, {"alive": eager}, seven, [7])


def test_check_exports_refuses_a_frozen_batch(seven: np.ndarray) -> None:
    """An artifact that answers for one image, whatever the batch, is refused."""
    with pytest.raises(BuildError, match=r"shape \(1, 2\) instead of \(7, 2\)"):
        check_exports(eager, {"frozen": lambda x: eager(x[:1])}, seven, [1, 7])


@pytest.mark.parametrize(("maximum", "expected"), [(32, [1, 2, 7, 32]), (4, [1, 2, 4]), (1, [1]), (7, [1, 2, 7])])
def test_batches_to_check(maximum: int, expected: list[int]) -> None:
    """1, 2, 7 and the maximum, none above it."""
    assert batches_to_check(maximum) == expected


def test_check_variant_refuses_other_answers(small_network: Path, pixels: np.ndarray, tmp_path: Path) -> None:
    """The same network passes; one with another last layer is refused, with numbers."""
    model = onnx.load(small_network)
    clear = 8 * np.eye(5, dtype=np.float32)
    for bias, path in ((clear[0], small_network), (clear[1], tmp_path / "other.onnx")):
        Graph(model).set_constant("b3", bias)
        onnx.save(model, path)
    bounds = Bounds(agreement=0.97, similarity=0.99)
    expected = predict(open_network("onnx", small_network), pixels)
    found = check_variant("int8", predict(open_network("int8", small_network), pixels), expected, bounds)
    assert (found.images, found.agreement, found.clear_agreement) == (16, 1, 1)
    with pytest.raises(BuildError, match=r"variant int8 differs too much .*the same top-1 on .* it was not written"):
        check_variant("int8", predict(open_network("int8", tmp_path / "other.onnx"), pixels), expected, bounds)


def test_compare_leaves_out_images_that_could_be_either() -> None:
    """Of two images that tip over only the one whose first class led counts; NaN never passes."""
    true = np.array([[0.9, 0.1], [0.52, 0.48], [0.1, 0.9]], dtype=np.float32)
    got = np.array([[0.9, 0.1], [0.48, 0.52], [0.1, 0.9]], dtype=np.float32)
    features = np.ones((3, 4), dtype=np.float32)
    found = compare((got, features), (true, features))
    assert (found.clear_images, found.clear_agreement) == (2, 1)
    assert found.agreement == pytest.approx(2 / 3)
    assert not compare((got, features * np.nan), (true, features)).similarity >= 0


def test_compare_takes_a_single_class_as_clear() -> None:
    """Its lead is its probability; networks with any number of classes can be built."""
    answer = np.ones((2, 1), dtype=np.float32), np.ones((2, 4), dtype=np.float32)
    found = compare(answer, answer)
    assert (found.clear_images, found.clear_agreement, found.agreement) == (2, 1, 1)


def test_compare_counts_a_single_class_as_yes_or_no() -> None:
    """A probability that crosses one half is another answer."""
    true, got = (np.array([[p], [0.9]], dtype=np.float32) for p in (0.2, 0.8))
    features = np.ones((2, 4), dtype=np.float32)
    assert compare((got, features), (true, features)).clear_agreement == 0.5
