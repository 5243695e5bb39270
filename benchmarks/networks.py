"""The variants of the network that are measured, and the engines that execute their files."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
# uint8 pixels of shape (N, size, size, 3) → probabilities of shape (N, classes).
Run = Callable[[Pixels], npt.NDArray[np.float32]]

VARIANTS = {
    "onnx": "FP32, ONNX Runtime",
    "fp32": "FP32, OpenVINO",
    "bf16": "BF16, OpenVINO",
    "int8": "INT8, OpenVINO",
}
"""Network and engine by the name that ``resnet-build`` uses."""

PEER_VARIANT = "int8"
"""The network that the peers serve: with the fastest one, servers differ most."""


def open_network(variant: str, file: Path, threads: int) -> Run:
    """Open a network with this number of threads, in its engine."""
    return _onnx_runtime(file, threads) if variant == "onnx" else _openvino(variant, file, threads)


def _onnx_runtime(file: Path, threads: int) -> Run:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    session = ort.InferenceSession(file, options, providers=["CPUExecutionProvider"])

    def run(pixels: Pixels) -> npt.NDArray[np.float32]:
        probabilities: npt.NDArray[np.float32] = session.run(["PROBABILITIES__0"], {"PIXELS__0": pixels})[0]
        return probabilities

    return run


def _openvino(variant: str, file: Path, threads: int) -> Run:
    import openvino as ov

    properties: dict[str, Any] = {
        "INFERENCE_PRECISION_HINT": ov.Type.bf16 if variant == "bf16" else ov.Type.f32,
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        # As in the server: with fewer threads, those of several networks would share the first core.
        "ENABLE_CPU_PINNING": threads == os.cpu_count(),
    }
    request = ov.Core().compile_model(file, "CPU", properties).create_infer_request()

    def run(pixels: Pixels) -> npt.NDArray[np.float32]:
        # OpenVINO uses the memory of the array without a reference, so a variable must keep it alive.
        held = np.require(pixels, requirements=["C", "W"])
        request.set_tensor("PIXELS__0", ov.Tensor(held, shared_memory=True))
        request.infer()
        probabilities: npt.NDArray[np.float32] = request.get_tensor("PROBABILITIES__0").data.copy()
        return probabilities

    return run
