"""Variants for CPUs on real images: what they lose, what they gain, and that no processor makes integers wrong."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from resnet_build import configs
from resnet_build.network import Network
from resnet_build.serving_options import OPENVINO_VARIANTS, PLAIN
from resnet_build.validate import predict
from resnet_build.variants import open_network
from resnet_client.preprocessing import PreprocessConfig, prepare

if TYPE_CHECKING:
    from conftest import LabelledImage

pytestmark = [pytest.mark.reliability, pytest.mark.timeout(1800)]

PREPROCESSING = PreprocessConfig(resize=256, crop=224)
BATCH = 8


@pytest.fixture(scope="module")
def networks(variant_repository: Path) -> dict[str, Network]:
    """The FP32 network and the variants, each with its engine."""
    return {
        name: open_network(name, variant_repository / configs.network_of(name) / "1/model.onnx")
        for name in (PLAIN, *OPENVINO_VARIANTS)
    }


@pytest.fixture(scope="module")
def pixels(imagenet_sample: list[LabelledImage]) -> np.ndarray:
    """All images, prepared."""
    return np.stack([prepare(image.path.read_bytes(), PREPROCESSING) for image in imagenet_sample])


def test_variants_lose_next_to_nothing(
    networks: dict[str, Network],
    pixels: np.ndarray,
    imagenet_sample: list[LabelledImage],
    note: Callable[[str], None],
) -> None:
    """Top-1 on ImageNet images, none of them used for calibration: half a point less at most, the same on 98 %."""
    expected = np.array([image.class_index for image in imagenet_sample])
    top1 = {name: predict(network, pixels)[0].argmax(axis=1) for name, network in networks.items()}
    right = {name: 100 * float((guess == expected).mean()) for name, guess in top1.items()}
    same = {name: 100 * float((guess == top1[PLAIN]).mean()) for name, guess in top1.items()}
    for name in OPENVINO_VARIANTS:
        note(f"top-1 {right[PLAIN]:.1f} % in float, {right[name]:.1f} % in {name}, the same on {same[name]:.1f} %")
        assert right[PLAIN] - right[name] <= 0.5
        assert same[name] >= 98


FEATURES_OF = """
import sys
import numpy as np
from pathlib import Path
from resnet_build.variants import open_network
np.save(sys.argv[3], open_network("int8", Path(sys.argv[1]))(np.load(sys.argv[2]))[1])
"""


def test_int8_overflows_on_no_processor(variant_repository: Path, pixels: np.ndarray, tmp_path: Path) -> None:
    """Kernels without VNNI, which add pairs in 16 bits, give the answers of those that cannot overflow."""
    np.save(tmp_path / "pixels.npy", pixels[:16])
    found = []
    for instructions in ("AVX2", "DEFAULT"):
        arguments = [
            variant_repository / "network_int8/1/model.onnx",
            tmp_path / "pixels.npy",
            tmp_path / f"{instructions}.npy",
        ]
        environment = {**os.environ, "ONEDNN_MAX_CPU_ISA": instructions}
        command = [sys.executable, "-c", FEATURES_OF, *map(str, arguments)]
        subprocess.run(command, env=environment, check=True, timeout=300)
        found.append(np.load(tmp_path / f"{instructions}.npy"))
    assert np.abs(found[0] - found[1]).mean() < 0.002 * np.abs(found[1]).mean()
