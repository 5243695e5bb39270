"""The INT8 network: weights and activations in 8 bits, made after training, for CPUs.

Weights have a scale per output channel and 7 bits only: where a processor has no VNNI, ONNX Runtime adds pairs
of products in 16 bits, which 8-bit weights overflow without an error. The last layer, with less than
a thousandth of the arithmetic, stays in float: quantising it costs more accuracy than all others together.
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
from resnet_build.variants.graph import Graph, check
from resnet_build.variants.pixel_input import ZERO, fold_normalisation, skip_arithmetic
from resnet_build.variants.statistics import Channels, measure

METHOD = (
    "static QDQ, unsigned 8-bit activations by MinMax, signed 7-bit weights per channel, "
    f"equalised ({STRENGTH:g}), biases corrected, last layer in float"
)
_INTEGER_TYPES = ["Conv", "Relu", "Add", "MaxPool"]


def convert(source: Path, destination: Path, learned: Pixels) -> None:
    """Quantise the exported network.

    Args:
        source: the float ONNX artifact.
        destination: file to write; inputs and outputs are those of ``source``.
        learned: real photos, prepared; uint8, shape (N, 224, 224, 3).
    """
    floats = Graph(onnx.load(source))
    first_input = fold_normalisation(floats)
    channels = equalise(floats, measure(floats, learned))
    quantised = Graph(_quantise(floats, channels, first_input))
    correct_biases(quantised, floats, channels)
    skip_arithmetic(quantised)
    quantised.model.ir_version = min(quantised.model.ir_version, MAX_IR_VERSION)
    check(quantised.model)
    onnx.save(quantised.model, destination)


def _quantise(floats: Graph, channels: dict[str, Channels], first_input: str) -> Any:
    model = onnx.ModelProto()
    model.CopyFrom(floats.model)
    zero = floats.constant(ZERO).astype(np.uint8)
    as_they_are = {"scale": np.array(1, dtype=np.float32), "zero_point": zero}
    ranges = {name: found.range for name, found in channels.items()}
    # The layer before a ReLU is merged with it, and so are their ranges.
    ranges |= {relu.input[0]: ranges[relu.output[0]] for relu in floats.of_type("Relu")}
    with _quietly():
        quantizer = QDQQuantizer(
            model,
            per_channel=True,
            reduce_range=True,
            weight_qType=QuantType.QInt8,
            activation_qType=QuantType.QUInt8,
            tensors_range=TensorsData(CalibrationMethod.MinMax, ranges),
            nodes_to_quantize=[],
            nodes_to_exclude=[],
            op_types_to_quantize=_INTEGER_TYPES,
            extra_options={"TensorQuantOverrides": {first_input: [as_they_are]}},
        )
        quantizer.quantize_model()
        quantizer.model.topological_sort()
    return quantizer.model.model


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
