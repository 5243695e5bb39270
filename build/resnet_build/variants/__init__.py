"""Variants of the network that trade a bounded part of its accuracy for speed or memory.

Each is made from the exported float ONNX, keeps the tensor contract, and is served beside the others as
``network_<variant>`` and ``resnet50_<variant>``.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from resnet_build.errors import BuildError
from resnet_build.options import PLAIN
from resnet_build.variants import as_exported, half, int8
from resnet_build.variants.calibration import CalibrationSet, Pixels
from resnet_build.variants.engines import Network, open_network
from resnet_build.variants.fidelity import Answers, Bounds, Fidelity, answers, hold

FILENAME = "model.onnx"


@dataclasses.dataclass(frozen=True)
class _Recipe:
    """How a variant is made and judged.

    Attributes:
        method: for the manifest.
        convert: makes it, from the float artifact, a file to write, and photos to learn from.
        bounds: what was measured is in docs/variants.md. A broken variant lies far below, a sound one well above.
        judged: photos to judge by; None for all.
    """

    method: str
    convert: Callable[[Path, Path, Pixels], None]
    bounds: Bounds
    judged: int | None = None


_RECIPES = {
    "int8": _Recipe(int8.METHOD, int8.convert, Bounds(agreement=0.97, similarity=0.99)),
    "bf16": _Recipe(as_exported.BF16_METHOD, as_exported.convert, Bounds(agreement=0.97, similarity=0.9995)),
    "fp32": _Recipe(as_exported.FP32_METHOD, as_exported.convert, Bounds(agreement=1, similarity=0.99999)),
    # ONNX Runtime emulates 16 bits on a CPU.
    "fp16": _Recipe(half.METHOD, half.convert, Bounds(agreement=1, similarity=0.9999), judged=8),
}


@dataclasses.dataclass(frozen=True)
class Built:
    """A variant that passed the gate.

    Attributes:
        path: its artifact.
        network: it, opened as it will be served on a CPU.
        fidelity: how near it is to the float network.
        record: for the manifest: method, calibration, fidelity.
    """

    path: Path
    network: Network
    fidelity: Fidelity
    record: dict[str, Any]


def build(
    names: Mapping[str, bool],
    source: Path,
    calibration: CalibrationSet,
    folder: Path,
    report: Callable[[str], None],
) -> dict[str, Built]:
    """Make variants and hold each to the float network.

    Args:
        names: some of ``options.VARIANTS`` → whether it must succeed; others are left out if they are too far.
        source: the float ONNX artifact.
        calibration: real photos to learn from and to judge by.
        folder: where to write, a folder for each.
        report: receives one sentence per variant.

    Raises:
        BuildError: one that must succeed is too far from the float network.
    """
    expected = answers(open_network(PLAIN, source), calibration.judged)
    made = {}
    for name, is_required in names.items():
        started = time.monotonic()
        path = folder / name / FILENAME
        path.parent.mkdir()
        try:
            built = made[name] = _build(name, source, path, calibration, expected)
        except BuildError as exc:
            if is_required:
                raise
            report(f"left out: {exc}")
            continue
        seconds = time.monotonic() - started
        report(f"variant {name}: {path.stat().st_size / 1e6:.0f} MB, {built.fidelity} ({seconds:.1f} s)")
    return made


def _build(name: str, source: Path, path: Path, calibration: CalibrationSet, expected: Answers) -> Built:
    recipe = _RECIPES[name]
    recipe.convert(source, path, calibration.learned)
    network, judged = open_network(name, path), slice(recipe.judged)
    probabilities, features = expected
    got = answers(network, calibration.judged[judged])
    found = hold(name, got, (probabilities[judged], features[judged]), recipe.bounds)
    record = {
        "method": recipe.method,
        "calibration": {"source": calibration.source, "sha256": calibration.sha256},
        "fidelity": dataclasses.asdict(found),
    }
    return Built(path, network, found, record)
