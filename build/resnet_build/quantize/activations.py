"""Measures the ranges of a network's activations on real images, and inserts ``QuantizeLinear`` nodes for them."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import logging
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnx import TensorProto, helper
from onnxruntime.quantization import CalibrationMethod, QDQQuantizer, QuantType, TensorsData
from resnet_client.requests import PIXELS

from resnet_build.network import Pixels
from resnet_build.quantize.graph import Array, Graph

Vector = npt.NDArray[np.float32]

_BATCH = 8
_MEASURES = {"ReduceMin": "lowest", "ReduceMax": "highest", "ReduceMean": "mean"}
_NO_OFFSET = np.array(0, dtype=np.int8)
# Without the head: it is less than a thousandth of the arithmetic, and quantising it would cost more accuracy
# than all other layers together.
_INTEGER_TYPES = ["Conv", "Relu", "Add", "MaxPool"]


@dataclasses.dataclass(frozen=True)
class Channels:
    """One activation over all images and positions; each vector has one value per channel.

    Attributes:
        lowest: smallest values.
        highest: largest values.
        mean: averages.
    """

    lowest: Vector
    highest: Vector
    mean: Vector

    def scaled(self, factors: Vector) -> Channels:
        """Return the values after each channel is multiplied by its (positive) factor."""
        return Channels(self.lowest * factors, self.highest * factors, self.mean * factors)

    @property
    def range(self) -> tuple[np.float32, np.float32]:
        """Smallest and largest value of all channels."""
        return np.float32(self.lowest.min()), np.float32(self.highest.max())


def measure(graph: Graph, images: Pixels) -> dict[str, Channels]:
    """Run images through an FP32 network and record every activation that will be quantised.

    Values are recorded per channel, because equalisation needs them. The ranges after it need no second run.

    Returns:
        Name of the tensor, of shape (N, C, H, W) → its channels.
    """
    tensors = _activations(graph)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # without warnings about constants that no node reads
    model = _with_measures(graph.model, tensors).SerializeToString()
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    rows: dict[str, list[Vector]] = {output.name: [] for output in session.get_outputs()}
    weights = []
    for start in range(0, len(images), _BATCH):
        batch = images[start : start + _BATCH]
        weights.append(len(batch))
        for name, values in zip(rows, session.run(list(rows), {PIXELS: batch}), strict=True):
            rows[name].append(values)
    return {
        tensor: Channels(
            lowest=np.min(rows[f"{tensor}_lowest"], axis=0),
            highest=np.max(rows[f"{tensor}_highest"], axis=0),
            mean=np.average(rows[f"{tensor}_mean"], axis=0, weights=weights).astype(np.float32),
        )
        for tensor in tensors
    }


def _activations(graph: Graph) -> list[str]:
    """Outputs of all layers; for a layer before a ReLU, the output of the ReLU, because quantisation merges the two."""
    consumers = graph.consumers()
    merged = {
        node.output[0]
        for node in graph.of_type("Conv", "Add")
        if [reader.op_type for reader in consumers[node.output[0]]] == ["Relu"]
    }
    nodes = graph.of_type("Sub", "Conv", "Add", "Relu", "MaxPool")
    return [node.output[0] for node in nodes if node.output[0] not in merged]


def _with_measures(model: onnx.ModelProto, tensors: list[str]) -> onnx.ModelProto:
    """Return a copy of a model whose outputs are minimum, maximum and mean of the tensors, per channel."""
    measured = onnx.ModelProto()
    measured.CopyFrom(model)
    graph = Graph(measured)
    graph.set_constant("but_channels", np.array([0, 2, 3], dtype=np.int64))
    del measured.graph.output[:]
    for tensor in tensors:
        for op_type, suffix in _MEASURES.items():
            name = f"{tensor}_{suffix}"
            graph.add(op_type, [tensor, "but_channels"], name, keepdims=0)
            measured.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    return measured


def insert_qdq(
    fp32: Graph, channels: dict[str, Channels], weight_scales: Mapping[str, list[Array]], first_input: str
) -> Graph:
    """Quantise with ONNX Runtime's quantizer.

    Args:
        fp32: the network; it is not changed.
        channels: its activations.
        weight_scales: name of each convolution's weights → scale per output channel.
        first_input: tensor whose values are signed 8-bit integers already.
    """
    model = onnx.ModelProto()
    model.CopyFrom(fp32.model)
    unscaled = {"quant_type": QuantType.QInt8, "scale": np.array(1, dtype=np.float32), "zero_point": _NO_OFFSET}
    overrides: dict[str, list[dict[str, Any]]] = {first_input: [unscaled]}
    for name, scales in weight_scales.items():
        overrides[name] = [{"axis": 0, "scale": scale, "zero_point": _NO_OFFSET} for scale in scales]
    ranges = {name: found.range for name, found in channels.items()}
    # The layer before a ReLU is merged with it, and so are their ranges.
    ranges |= {relu.input[0]: ranges[relu.output[0]] for relu in fp32.of_type("Relu")}
    with _without_advice():
        quantizer = QDQQuantizer(
            model,
            per_channel=True,
            reduce_range=False,  # the overrides prevent overflow
            weight_qType=QuantType.QInt8,
            activation_qType=QuantType.QUInt8,
            tensors_range=TensorsData(CalibrationMethod.MinMax, ranges),
            nodes_to_quantize=[],
            nodes_to_exclude=[node.name for node in fp32.head()],
            op_types_to_quantize=_INTEGER_TYPES,
            extra_options={"TensorQuantOverrides": overrides},
        )
        quantizer.quantize_model()
        quantizer.model.topological_sort()
    return Graph(quantizer.model.model)


@contextlib.contextmanager
def _without_advice() -> Iterator[None]:
    """Silence the quantizer's hints about other ways to call it."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(before)


def keep_sums_exact(int8: Graph) -> None:
    """Let each sum read its first convolution's result before it is rounded to 8 bits.

    OpenVINO computes both in one kernel, so this is faster and more exact. The other summand stays rounded, because
    OpenVINO stores it in memory.
    """
    producers = int8.producers()
    for node in int8.of_type("Add"):
        dequantise = producers[node.input[0]]
        quantise = producers[dequantise.input[0]]
        node.input[0] = quantise.input[0]
        int8.remove(dequantise, quantise)
    int8.drop_unused_constants()
