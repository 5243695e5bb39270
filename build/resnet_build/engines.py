"""Opens a network on this machine's CPU with the engine that will serve it, to evaluate and time what is served."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime
import openvino

from resnet_build.options import OPENVINO_VARIANTS
from resnet_build.quantize.calibration import Pixels
from resnet_build.tensors import FEATURES, PIXELS, PROBABILITIES

Floats = npt.NDArray[np.float32]
# Probabilities, shape (N, classes), and features, shape (N, 2048).
Outputs = tuple[Floats, Floats]
# uint8 pixels of shape (N, 224, 224, 3) → its outputs.
Network = Callable[[Pixels], Outputs]

_CPU = "CPU"


def open_network(name: str, artifact: Path) -> Network:
    """Open an artifact.

    Args:
        name: ``onnx`` or a variant, which determines the engine and its precision.
        artifact: an ONNX file.
    """
    return _openvino(name, artifact) if name in OPENVINO_VARIANTS else _onnx_runtime(artifact)


@functools.cache
def has_bfloat16() -> bool:
    """Whether this processor computes in bfloat16; OpenVINO takes 32 bits where it does not."""
    return "BF16" in openvino.Core().get_property(_CPU, "OPTIMIZATION_CAPABILITIES")


def processor() -> str:
    """Return the processor's name, and which short numbers it multiplies."""
    core = openvino.Core()
    capabilities = set(core.get_property(_CPU, "OPTIMIZATION_CAPABILITIES")) & {"INT8", "BF16", "FP16"}
    return f"{core.get_property(_CPU, 'FULL_DEVICE_NAME').strip()} ({', '.join(sorted(capabilities))})"


def _onnx_runtime(artifact: Path) -> Network:
    options = onnxruntime.SessionOptions()
    # Idle threads of one network would take the cores from the next.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    session = onnxruntime.InferenceSession(artifact, options, providers=["CPUExecutionProvider"])

    def run(pixels: Pixels) -> Outputs:
        probabilities, features = session.run([PROBABILITIES, FEATURES], {PIXELS: pixels})
        return probabilities, features

    return run


def _openvino(name: str, artifact: Path) -> Network:
    precision = openvino.Type.bf16 if name == "bf16" and has_bfloat16() else openvino.Type.f32
    properties = {"INFERENCE_PRECISION_HINT": precision, "NUM_STREAMS": 1}
    request = openvino.Core().compile_model(artifact, _CPU, properties).create_infer_request()

    def run(pixels: Pixels) -> Outputs:
        held = np.ascontiguousarray(pixels)  # OpenVINO reads it in place and does not hold it
        request.set_tensor(PIXELS, openvino.Tensor(held, shared_memory=True))
        request.infer()
        return request.get_tensor(PROBABILITIES).data.copy(), request.get_tensor(FEATURES).data.copy()

    return run
