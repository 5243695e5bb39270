"""Variants of the network that trade a bounded part of its accuracy for speed or memory.

Each is made from the exported FP32 ONNX, has the same inputs and outputs, and is served in addition to the others as
``network_<variant>`` and ``resnet50_<variant>``.
"""

from __future__ import annotations

import dataclasses
import functools
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import openvino
from resnet_client.requests import FEATURES, PIXELS, PROBABILITIES

from resnet_build import BuildError, Report, export_onnx
from resnet_build.images import CalibrationSet
from resnet_build.network import Network, Outputs, Pixels
from resnet_build.quantize import fp16, int8
from resnet_build.serving_options import OPENVINO_VARIANTS
from resnet_build.validate import Bounds, Fidelity, check_variant, predict

_CPU = "CPU"


def copy(source: Path, destination: Path, _: Pixels) -> None:
    """Copy the exported network: OpenVINO reads the precision from the config and rounds weights while loading."""
    shutil.copyfile(source, destination)


@dataclasses.dataclass(frozen=True)
class _Variant:
    """How a variant is made and evaluated.

    Attributes:
        method: for the manifest.
        convert: makes it; its arguments are the FP32 artifact, the file to write, and calibration images.
        bounds: required accuracy: a broken variant is far below it, and a correct one well above.
        images: number of images to evaluate on; None for all.
    """

    method: str
    convert: Callable[[Path, Path, Pixels], None]
    bounds: Bounds
    images: int | None = None


_VARIANTS = {
    "int8": _Variant(int8.METHOD, int8.convert, Bounds(agreement=0.97, similarity=0.99)),
    "bf16": _Variant(
        "weights and activations in bfloat16 where the processor has it, sums in 32 bits",
        copy,
        Bounds(agreement=0.97, similarity=0.9995),
    ),
    "fp32": _Variant("32 bits throughout, by OpenVINO", copy, Bounds(agreement=1, similarity=0.99999), images=8),
    # ONNX Runtime emulates 16 bits on a CPU.
    "fp16": _Variant(fp16.METHOD, fp16.convert, Bounds(agreement=1, similarity=0.9999), images=8),
}


@dataclasses.dataclass(frozen=True)
class Built:
    """A variant that is accurate enough.

    Attributes:
        path: its artifact.
        network: the variant, opened as it will be served on a CPU.
        fidelity: its agreement with the FP32 network.
        record: for the manifest: method, calibration, fidelity.
    """

    path: Path
    network: Network
    fidelity: Fidelity
    record: dict[str, Any]


def build(
    names: Mapping[str, bool], source: Path, images: CalibrationSet, *, plain: Network, folder: Path, report: Report
) -> dict[str, Built]:
    """Make variants and compare each with the FP32 network.

    Args:
        names: some of ``VARIANTS`` → whether it must succeed; the others are left out if they differ too much.
        source: the FP32 ONNX artifact.
        images: for calibration and evaluation.
        plain: ``source``, opened.
        folder: where to write, a folder for each.
        report: receives one message per variant.

    Raises:
        BuildError: a variant that must succeed differs too much from the FP32 network.
    """
    expected = predict(plain, images.evaluation)
    made = {}
    for name, is_required in names.items():
        started = time.monotonic()
        path = folder / name / export_onnx.FILENAME
        path.parent.mkdir()
        try:
            built = made[name] = _build(name, source, path, images, expected)
        except BuildError as exc:
            if is_required:
                raise
            report(f"left out: {exc}")
            continue
        seconds = time.monotonic() - started
        report(f"variant {name}: {path.stat().st_size / 1e6:.0f} MB, {built.fidelity} ({seconds:.1f} s)")
    return made


def _build(name: str, source: Path, path: Path, images: CalibrationSet, expected: Outputs) -> Built:
    variant = _VARIANTS[name]
    variant.convert(source, path, images.calibration)
    network, some = open_network(name, path), slice(variant.images)
    got = predict(network, images.evaluation[some])
    found = check_variant(name, got, [output[some] for output in expected], variant.bounds)
    record = {
        "method": variant.method,
        "calibration": {"source": images.source, "sha256": images.sha256},
        "fidelity": dataclasses.asdict(found),
    }
    return Built(path, network, found, record)


def open_network(name: str, artifact: Path) -> Network:
    """Open an ONNX artifact on this machine's CPU with the runtime that will serve it.

    Args:
        name: ``onnx`` or a variant, which determines the runtime and its precision.
        artifact: an ONNX file.
    """
    if name not in OPENVINO_VARIANTS:
        return export_onnx.open_artifact(artifact)
    precision = openvino.Type.bf16 if name == "bf16" and has_bfloat16() else openvino.Type.f32
    properties = {"INFERENCE_PRECISION_HINT": precision, "NUM_STREAMS": 1}
    request = openvino.Core().compile_model(artifact, _CPU, properties).create_infer_request()

    def run(pixels: Pixels) -> Outputs:
        held = np.ascontiguousarray(pixels)  # OpenVINO reads it in place and does not keep a reference
        request.set_tensor(PIXELS, openvino.Tensor(held, shared_memory=True))
        request.infer()
        return [request.get_tensor(name).data.copy() for name in (PROBABILITIES, FEATURES)]

    return run


@functools.cache
def has_bfloat16() -> bool:
    """Whether this processor computes in bfloat16; on others, OpenVINO computes in 32 bits."""
    return "BF16" in openvino.Core().get_property(_CPU, "OPTIMIZATION_CAPABILITIES")


def processor() -> str:
    """Return the processor's name, and those of INT8, BF16 and FP16 that it supports."""
    core = openvino.Core()
    capabilities = set(core.get_property(_CPU, "OPTIMIZATION_CAPABILITIES")) & {"INT8", "BF16", "FP16"}
    return f"{core.get_property(_CPU, 'FULL_DEVICE_NAME').strip()} ({', '.join(sorted(capabilities))})"
