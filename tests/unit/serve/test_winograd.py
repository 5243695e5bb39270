"""Convolutions with fewer multiplications, against OpenVINO's own."""

from __future__ import annotations

from typing import Any

import numpy as np
import openvino as ov
import pytest
from openvino import opset13 as op
from resnet_serve.backends.openvino import winograd

RANDOM = np.random.default_rng(20160627)
CHANNELS = 64


def network(
    height: int, width: int, *, channels: int = CHANNELS, size: int = 3, quantised: bool = False, **changed: Any
) -> ov.Model:
    """A convolution between additions, so that nothing is asked of what lies around it."""
    pixels = op.parameter([-1, channels, height, width], np.float32, name="x")
    weights = RANDOM.normal(size=(CHANNELS, channels, size, size)) / np.sqrt(channels * size**2)
    attributes = {"strides": [1, 1], "pads_begin": [1, 1], "pads_end": [1, 1], "dilations": [1, 1]} | changed
    before = op.add(pixels, op.constant(np.float32(0.5)))
    if quantised:
        lowest, highest = op.constant(np.float32(-4)), op.constant(np.float32(4))
        before = op.fake_quantize(before, lowest, highest, lowest, highest, 256)
    result = op.convolution(before, op.constant(weights.astype(np.float32)), **attributes)
    return ov.Model([op.add(result, op.constant(np.float32(1)))], [pixels])


def answers(model: ov.Model, pixels: np.ndarray) -> np.ndarray:
    """What the model computes, in 32 bits."""
    compiled = ov.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return np.array(compiled([pixels])[0])


def operations(model: ov.Model) -> list[str]:
    """Types of the model's operations."""
    return [node.get_type_name() for node in model.get_ops()]


@pytest.mark.parametrize("shape", [(56, 56), (14, 14), (29, 31), (15, 42), (7, 7), (1, 3)])
def test_the_same_is_computed(shape: tuple[int, int]) -> None:
    """Whether tiles fill the map or reach beyond it, and at the borders as inside."""
    pixels = RANDOM.normal(size=(winograd.TOGETHER, CHANNELS, *shape)).astype(np.float32)
    model = network(*shape)
    expected = answers(model, pixels)
    replaced = winograd.for_pairs(model.clone())
    assert operations(replaced).count("Convolution") == 16
    np.testing.assert_allclose(answers(replaced, pixels), expected, atol=1e-5)


def test_a_model_of_one_photo_is_left() -> None:
    """Somebody else's may have its batch size inside, or any number of dimensions."""
    pixels = op.parameter([-1, CHANNELS, 14, 14], np.float32)
    flat = op.reshape(pixels, op.constant(np.array([1, CHANNELS * 14 * 14])), special_zero=False)
    assert winograd.for_pairs(ov.Model([flat], [pixels])) is None
    anything = op.parameter(ov.PartialShape.dynamic(), np.float32)
    assert winograd.for_pairs(ov.Model([op.relu(anything)], [anything])) is None


@pytest.mark.parametrize(
    "other",
    [
        network(14, 14, strides=[2, 2]),
        network(14, 14, dilations=[2, 2]),
        network(14, 14, pads_begin=[0, 0]),
        network(14, 14, auto_pad="same_upper"),
        network(14, 14, size=1, pads_begin=[0, 0], pads_end=[0, 0]),
        network(14, 14, size=5),
        network(14, 14, channels=CHANNELS - 1),
        network(14, 14, quantised=True),
        network(-1, 14),
    ],
    ids=[
        "strides",
        "dilations",
        "border",
        "automatic border",
        "1x1",
        "5x5",
        "few channels",
        "quantised",
        "any size",
    ],
)
def test_others_are_left(other: ov.Model) -> None:
    """Nothing pays where one of the conditions fails."""
    before = operations(other)
    assert winograd.for_pairs(other) is None
    assert operations(other) == before
