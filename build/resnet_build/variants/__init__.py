"""Variants of the network that trade a bounded part of its accuracy for speed or memory.

Each is made from the exported float ONNX, keeps the tensor contract, and is served beside the others as
``network_<variant>`` and ``resnet50_<variant>``.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from resnet_build.variants import half, int8
from resnet_build.variants.calibration import CalibrationSet
from resnet_build.variants.fidelity import Bounds, hold

FILENAME = "model.onnx"

# What was measured is in docs/variants.md. A broken quantisation lies far below, a sound one well above.
_BOUNDS = {"int8": Bounds(agreement=0.97, similarity=0.99), "fp16": Bounds(agreement=1, similarity=0.9999)}
# ONNX Runtime emulates 16 bits on a CPU.
_JUDGED = {"int8": None, "fp16": 8}


@dataclasses.dataclass(frozen=True)
class Built:
    """A variant that passed the gate.

    Attributes:
        path: its artifact.
        record: for the manifest: method, calibration, fidelity.
    """

    path: Path
    record: dict[str, Any]


def build(
    names: Sequence[str], source: Path, calibration: CalibrationSet, folder: Path, report: Callable[[str], None]
) -> dict[str, Built]:
    """Make variants and hold each to the float network.

    Args:
        names: some of ``options.VARIANTS``.
        source: the float ONNX artifact.
        calibration: real photos to learn from and to judge by.
        folder: where to write, a folder for each.
        report: receives one sentence per variant.

    Raises:
        BuildError: one is too far from the float network.
    """
    return {name: _build(name, source, calibration, folder, report) for name in names}


def _build(name: str, source: Path, calibration: CalibrationSet, folder: Path, report: Callable[[str], None]) -> Built:
    started = time.monotonic()
    path = folder / name / FILENAME
    path.parent.mkdir()
    record: dict[str, Any] = {}
    if name == "int8":
        int8.convert(source, path, calibration.learned)
        record["method"] = int8.METHOD
        record["calibration"] = {"source": calibration.source, "sha256": calibration.sha256}
    else:
        half.convert(source, path)
        record["method"] = half.METHOD
    found = hold(name, path, source, calibration.judged[: _JUDGED[name]], _BOUNDS[name])
    record["fidelity"] = dataclasses.asdict(found)
    report(f"variant {name}: {path.stat().st_size / 1e6:.0f} MB, {found} ({time.monotonic() - started:.1f} s)")
    return Built(path, record)
