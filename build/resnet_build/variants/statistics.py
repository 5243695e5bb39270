"""What the channels of a float network's activations look like on real photos."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnx import TensorProto, helper

from resnet_build.tensors import PIXELS
from resnet_build.variants.calibration import Pixels
from resnet_build.variants.graph import Graph

Vector = npt.NDArray[np.float32]

_BATCH = 8
_MEASURES = {"ReduceMin": "lowest", "ReduceMax": "highest", "ReduceMean": "mean"}


@dataclasses.dataclass(frozen=True)
class Channels:
    """One activation over all photos and positions; each vector has one value per channel.

    Attributes:
        lowest: smallest values.
        highest: largest values.
        mean: averages.
    """

    lowest: Vector
    highest: Vector
    mean: Vector

    def scaled(self, factors: Vector) -> Channels:
        """Return what they are after each channel was multiplied by its (positive) factor."""
        return Channels(self.lowest * factors, self.highest * factors, self.mean * factors)

    @property
    def range(self) -> tuple[np.float32, np.float32]:
        """Smallest and largest value of all channels."""
        return np.float32(self.lowest.min()), np.float32(self.highest.max())


def measure(graph: Graph, pixels: Pixels) -> dict[str, Channels]:
    """Run photos through a float network and watch every activation that will be quantised.

    The network is watched channel by channel, not as whole tensors: equalisation needs that, and the ranges
    after it follow without another run.

    Returns:
        Name of the tensor, of shape (N, C, H, W) → its channels.
    """
    watched = _activations(graph)
    session = onnxruntime.InferenceSession(
        _with_taps(graph.model, watched).SerializeToString(), _options(), providers=["CPUExecutionProvider"]
    )
    rows: dict[str, list[Vector]] = {output.name: [] for output in session.get_outputs()}
    weights = []
    for start in range(0, len(pixels), _BATCH):
        batch = pixels[start : start + _BATCH]
        weights.append(len(batch))
        for name, values in zip(rows, session.run(list(rows), {PIXELS: batch}), strict=True):
            rows[name].append(values)
    return {
        tensor: Channels(
            lowest=np.min(rows[f"{tensor}_lowest"], axis=0),
            highest=np.max(rows[f"{tensor}_highest"], axis=0),
            mean=np.average(rows[f"{tensor}_mean"], axis=0, weights=weights).astype(np.float32),
        )
        for tensor in watched
    }


def _activations(graph: Graph) -> list[str]:
    """Outputs of all layers; of a layer before a ReLU, the ReLU's, which quantisation merges with it."""
    consumers = graph.consumers()
    merged = {
        node.output[0]
        for node in graph.of_type("Conv", "Add")
        if [reader.op_type for reader in consumers[node.output[0]]] == ["Relu"]
    }
    return [node.output[0] for node in graph.of_type("Sub", "Conv", "Add", "Relu", "MaxPool")
            if node.output[0] not in merged]  # fmt: skip


def _with_taps(model: onnx.ModelProto, tensors: list[str]) -> onnx.ModelProto:
    tapped = onnx.ModelProto()
    tapped.CopyFrom(model)
    graph = Graph(tapped)
    graph.set_constant("but_channels", np.array([0, 2, 3], dtype=np.int64))
    del tapped.graph.output[:]
    for tensor in tensors:
        for op_type, suffix in _MEASURES.items():
            name = f"{tensor}_{suffix}"
            graph.add(op_type, [tensor, "but_channels"], name, keepdims=0)
            tapped.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    return tapped


def _options() -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # it warns of every constant that no remaining node reads
    return options
