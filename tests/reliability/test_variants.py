"""The integer network on real photos: what it loses, what it gains, and that no processor makes it wrong."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnxruntime
import pytest
from resnet_build.python_models.preprocess.photo import Recipe, prepare
from resnet_build.tensors import FEATURES, PIXELS, PROBABILITIES
from resnet_build.variants import calibration, int8

if TYPE_CHECKING:
    from conftest import LabelledPhoto

pytestmark = [pytest.mark.reliability, pytest.mark.timeout(1800)]

RECIPE = Recipe(resize=256, crop=224)
BATCH = 8
ROUNDS = 7


@pytest.fixture(scope="module")
def float_network(repository: Path) -> Path:
    """The exported float network with real weights."""
    return repository / "network_onnx/1/model.onnx"


@pytest.fixture(scope="module")
def integer_network(float_network: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """It in 8 bits, by the photos that packages ship."""
    path = tmp_path_factory.mktemp("int8") / "model.onnx"
    int8.convert(float_network, path, calibration.load(None, RECIPE).learned)
    return path


@pytest.fixture(scope="module")
def pixels(imagenet_sample: list[LabelledPhoto]) -> np.ndarray:
    """All photos, prepared."""
    return np.stack([prepare(photo.path.read_bytes(), RECIPE) for photo in imagenet_sample])


def session(path: Path, **entries: str) -> onnxruntime.InferenceSession:
    """Open an artifact as the backend does."""
    options = onnxruntime.SessionOptions()
    # Idle threads of one session would take the cores from the other.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    for name, value in entries.items():
        options.add_session_config_entry(name, value)
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def answers(opened: onnxruntime.InferenceSession, pixels: np.ndarray, output: str) -> np.ndarray:
    """One output for all photos."""
    batches = [pixels[start : start + BATCH] for start in range(0, len(pixels), BATCH)]
    return np.concatenate([opened.run([output], {PIXELS: batch})[0] for batch in batches])


def test_int8_loses_next_to_nothing(
    float_network: Path,
    integer_network: Path,
    pixels: np.ndarray,
    imagenet_sample: list[LabelledPhoto],
    figure: Callable[[str], None],
) -> None:
    """Top-1 on ImageNet photos, none of which it has seen: half a point less at most, and the same on 98 %."""
    expected = np.array([photo.class_index for photo in imagenet_sample])
    top1 = {
        path: answers(session(path), pixels, PROBABILITIES).argmax(axis=1) for path in (float_network, integer_network)
    }
    right = {path: 100 * float((guess == expected).mean()) for path, guess in top1.items()}
    same = 100 * float((top1[float_network] == top1[integer_network]).mean())
    figure(
        f"top-1 {right[float_network]:.1f} % in float, {right[integer_network]:.1f} % in int8, the same on {same:.1f} %"
    )
    assert right[float_network] - right[integer_network] <= 0.5
    assert same >= 98


def test_no_pair_of_products_overflows(integer_network: Path, pixels: np.ndarray) -> None:
    """With kernels that cannot overflow, which are slower, the answers are the same to the last bit."""
    some = pixels[:16]
    exact = session(integer_network, **{"session.x64quantprecision": "1"})
    np.testing.assert_array_equal(answers(session(integer_network), some, FEATURES), answers(exact, some, FEATURES))


def test_int8_is_faster(
    float_network: Path, integer_network: Path, pixels: np.ndarray, figure: Callable[[str], None]
) -> None:
    """In turns in one run, so that whatever else the machine does falls on both."""
    opened = {path: session(path) for path in (float_network, integer_network)}
    times: dict[Path, list[float]] = {path: [] for path in opened}
    for _ in range(ROUNDS):
        for path, network in opened.items():
            started = time.perf_counter()
            network.run(None, {PIXELS: pixels[:BATCH]})
            times[path].append(time.perf_counter() - started)
    ratio = statistics.median(times[float_network]) / statistics.median(times[integer_network])
    figure(f"int8 executes a batch of {BATCH} {ratio:.2f} times as fast as float, median of {ROUNDS} in turns")
    assert ratio > 1.1
