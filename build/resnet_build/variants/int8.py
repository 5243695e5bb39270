"""The INT8 network: weights and activations in 8 bits, made after training, for CPUs.

It is served by OpenVINO, which computes a convolution, the sum of a block and its ReLU as one kernel. So the first
summand is not rounded to 8 bits in between, which is faster and more exact.

Where a processor has no VNNI, kernels multiply two neighbouring inputs by their weights and adds the two
products in 16 bits, which can overflow without an error. The usual remedy, weights of 7 bits, costs accuracy on
every processor. Here each output channel has the finest scale at which no two neighbours overflow: mostly
that of 8 bits, since large weights seldom lie side by side.

The last layer, with less than a thousandth of the arithmetic, stays in float: quantising it costs more accuracy
than all others together.
"""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationMethod, QDQQuantizer, QuantType, TensorsData

from resnet_build.export_onnx import MAX_IR_VERSION
from resnet_build.variants.calibration import Pixels
from resnet_build.variants.equalise import STRENGTH, correct_biases, equalise
from resnet_build.variants.graph import Array, Graph, check
from resnet_build.variants.pixel_input import fold_normalisation
from resnet_build.variants.statistics import Channels, measure

METHOD = (
    "static QDQ, unsigned 8-bit activations by MinMax, signed 8-bit weights per channel without 16-bit overflow, "
    f"equalised ({STRENGTH:g}), biases corrected, sums and last layer in float"
)
_LARGEST_WEIGHT = 127
# Two inputs of at most 255, times weights that add up to this, stay below 2 ** 15; half a step is for rounding.
_LARGEST_PAIR = 128 - 0.5
_NO_OFFSET = np.array(0, dtype=np.int8)
_INTEGER_TYPES = ["Conv", "Relu", "Add", "MaxPool"]


def convert(source: Path, destination: Path, learned: Pixels) -> None:
    """Quantise the exported network.

    Args:
        source: the float ONNX artifact.
        destination: file to write; inputs and outputs are those of ``source``.
        learned: real photos, prepared; uint8, shape (N, 224, 224, 3).
    """
    floats = Graph(onnx.load(source))
    floats.own_constants("Conv")
    first_input = fold_normalisation(floats)
    channels = equalise(floats, measure(floats, learned))
    quantised = Graph(_quantise(floats, channels, first_input))
    correct_biases(quantised, floats, channels)
    keep_summands(quantised)
    quantised.model.ir_version = min(quantised.model.ir_version, MAX_IR_VERSION)
    check(quantised.model)
    onnx.save(quantised.model, destination)


def _quantise(floats: Graph, channels: dict[str, Channels], first_input: str) -> Any:
    model = onnx.ModelProto()
    model.CopyFrom(floats.model)
    as_they_are = {"quant_type": QuantType.QInt8, "scale": np.array(1, dtype=np.float32), "zero_point": _NO_OFFSET}
    overrides: dict[str, list[dict[str, Any]]] = {first_input: [as_they_are]}
    for node in floats.of_type("Conv"):
        scales = weight_scales(floats.constant(node.input[1]))
        overrides[node.input[1]] = [{"axis": 0, "scale": scale, "zero_point": _NO_OFFSET} for scale in scales]
    ranges = {name: found.range for name, found in channels.items()}
    # The layer before a ReLU is merged with it, and so are their ranges.
    ranges |= {relu.input[0]: ranges[relu.output[0]] for relu in floats.of_type("Relu")}
    with _quietly():
        quantizer = QDQQuantizer(
            model,
            per_channel=True,
            reduce_range=False,  # the overrides see to it
            weight_qType=QuantType.QInt8,
            activation_qType=QuantType.QUInt8,
            tensors_range=TensorsData(CalibrationMethod.MinMax, ranges),
            nodes_to_quantize=[],
            nodes_to_exclude=[],
            op_types_to_quantize=_INTEGER_TYPES,
            extra_options={"TensorQuantOverrides": overrides},
        )
        quantizer.quantize_model()
        quantizer.model.topological_sort()
    return quantizer.model.model


def weight_scales(weights: Array) -> list[Array]:
    """Return the scale of each output channel, float32 scalars; ``weights`` has shape (out, in, height, width).

    Neighbours are two channels at the same position: kernels lay the inputs of a convolution side by side position
    by position, and pad odd channels.
    """
    rows = np.abs(weights)
    rows = np.pad(rows, ((0, 0), (0, rows.shape[1] % 2), (0, 0), (0, 0)))
    pairs = rows[:, 0::2] + rows[:, 1::2]
    scales = np.maximum(_largest(rows) / _LARGEST_WEIGHT, _largest(pairs) / _LARGEST_PAIR)
    # A channel without weights may have any scale but 0.
    return [np.array(scale or 1, dtype=np.float32) for scale in scales]


def _largest(rows: Array) -> Array:
    largest: Array = rows.max(axis=(1, 2, 3))
    return largest


def keep_summands(graph: Graph) -> None:
    """Let each sum read its first convolution's result as it is, not rounded to 8 bits."""
    producers = graph.producers()
    for node in graph.of_type("Add"):
        # Inwards from the sum; the other summand stays rounded, for it is kept in memory meanwhile.
        dequantise = producers[node.input[0]]
        quantise = producers[dequantise.input[0]]
        node.input[0] = quantise.input[0]
        graph.remove(dequantise, quantise)
    graph.drop_unused_constants()


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Without the quantizer's advice on other ways to call it."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(before)
