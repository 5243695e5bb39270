"""The networks that are compared: a file of the repository and the engine that executes it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
# uint8 pixels of shape (N, size, size, 3) → probabilities of shape (N, classes).
Run = Callable[[Pixels], npt.NDArray[np.float32]]


@dataclasses.dataclass(frozen=True)
class Network:
    """A network in the engine that serves it.

    Attributes:
        served: name of the model in the repository, whose file it is.
        engine: ``onnxruntime`` or ``openvino``.
    """

    served: str
    engine: str

    def file(self, repository: Path) -> Path:
        """Its ONNX file."""
        return repository / self.served / "1/model.onnx"


SECOND_ENGINE = " on OpenVINO"
NETWORKS = {
    "FP32": Network("network_onnx", "onnxruntime"),
    "INT8": Network("network_int8", "onnxruntime"),
    "FP32 on OpenVINO": Network("network_fp32", "openvino"),
    "INT8 on OpenVINO": Network("network_int8", "openvino"),
    "BF16 on OpenVINO": Network("network_bf16", "openvino"),
}


def of_repository(repository: Path) -> dict[str, Network]:
    """The networks whose files exist."""
    return {name: network for name, network in NETWORKS.items() if network.file(repository).exists()}


def name_of(served: str, engine: str) -> str:
    """The name of a served model in the benchmark.

    Raises:
        KeyError: it is not compared.
    """
    return {(network.served, network.engine): name for name, network in NETWORKS.items()}[served, engine]


def open_network(name: str, file: Path, threads: int, *, spin: bool) -> Run:
    """Open a network with this number of threads; ``spin``: whether idle threads of ONNX Runtime spin."""
    engine = NETWORKS[name].engine
    return _openvino(name, file, threads) if engine == "openvino" else _onnx_runtime(file, threads, spin=spin)


def _onnx_runtime(file: Path, threads: int, *, spin: bool) -> Run:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", str(int(spin)))
    session = ort.InferenceSession(file, options, providers=["CPUExecutionProvider"])

    def run(pixels: Pixels) -> npt.NDArray[np.float32]:
        probabilities: npt.NDArray[np.float32] = session.run(["PROBABILITIES__0"], {"PIXELS__0": pixels})[0]
        return probabilities

    return run


def _openvino(name: str, file: Path, threads: int) -> Run:
    import openvino as ov

    properties: dict[str, Any] = {
        "INFERENCE_PRECISION_HINT": ov.Type.bf16 if name.startswith("BF16") else ov.Type.f32,
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        # With pinning, the threads of several networks would share the first core.
        "ENABLE_CPU_PINNING": False,
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
