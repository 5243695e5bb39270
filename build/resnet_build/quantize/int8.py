"""The INT8 network, quantised after training, for CPUs.

The FP32 network's weights are prepared for 8 bits: normalisation, equalisation, scales, biases. :mod:`activations`
finds the range of every activation and inserts the pairs of ``QuantizeLinear`` and ``DequantizeLinear``. OpenVINO,
which serves the result, computes a convolution, the sum of its block and the ReLU as one kernel.
"""

# On 800 images, this agrees with FP32 on 98.75 % (KL 0.0040), nncf 3.4 on 97.6 to 98.0 % (KL 0.014).

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx

from resnet_build import export_onnx
from resnet_build.network import Pixels
from resnet_build.quantize import activations
from resnet_build.quantize.activations import Channels, Vector
from resnet_build.quantize.graph import Array, Graph, Node

# The best of 0.25, 0.5 and 0.75: KL 0.0040, 0.0065, 0.0139 from FP32 (0.0053 without), on 100 images.
STRENGTH = 0.25
METHOD = (
    "static QDQ, unsigned 8-bit activations by MinMax, signed 8-bit weights per channel without 16-bit overflow, "
    f"equalised ({STRENGTH:g}), biases corrected, sums and last layer in float"
)
_LARGEST_FACTOR = 20.0
_SILENT = 1e-6  # a channel without larger values counts as empty

_LARGEST_WEIGHT = 127
# Two inputs of at most 255, times weights with this sum, stay below 2 ** 15; the half is for rounding.
_LARGEST_PAIR = 128 - 0.5

_ZERO = np.float32(128)
_ZERO_NAME = "pixel_zero"


def convert(source: Path, destination: Path, images: Pixels) -> None:
    """Quantise the exported network.

    Args:
        source: the FP32 ONNX artifact.
        destination: file to write; inputs and outputs are those of ``source``.
        images: preprocessed images that the ranges are taken from; uint8, shape (N, size, size, 3).
    """
    fp32 = Graph(onnx.load(source))
    fp32.own_constants("Conv")
    first_input = fold_normalisation(fp32)
    channels = equalise(fp32, activations.measure(fp32, images))
    quantised = activations.insert_qdq(fp32, channels, scales(fp32), first_input)
    correct_biases(quantised, fp32, channels)
    activations.keep_sums_exact(quantised)
    export_onnx.save(quantised.model, destination)


def fold_normalisation(graph: Graph) -> str:
    """Fold mean and standard deviation into the first convolution, so that it reads ``pixels - 128``.

    That is a signed 8-bit tensor of scale 1, so the input is not rounded. Only the padding is an approximation: its
    value is 128 instead of the channel's mean, a difference of up to 24 of 255.

    Returns:
        Name of the first convolution's new input.
    """
    sub, div = graph.only("Sub"), graph.only("Div")
    conv = graph.of_type("Conv")[0]
    mean, std = (graph.constant(node.input[1]).reshape(-1) for node in (sub, div))
    weight = graph.constant(conv.input[1]) / std[None, :, None, None]
    shift = (weight * (_ZERO - mean)[None, :, None, None]).sum(axis=(1, 2, 3))
    bias = graph.constant(conv.input[2]) + shift
    graph.set_constant(conv.input[1], weight)
    graph.set_constant(conv.input[2], bias)
    graph.set_constant(_ZERO_NAME, np.array(_ZERO))
    sub.input[1] = _ZERO_NAME
    conv.input[0] = sub.output[0]
    graph.remove(div)
    graph.drop_unused_constants()
    return str(sub.output[0])


def equalise(graph: Graph, channels: dict[str, Channels]) -> dict[str, Channels]:
    """Bring the channels between two convolutions of a block closer in range; the network's function stays the same.

    An activation has one scale for all its channels, so one channel with large values reduces the resolution of all
    others. Positive factors pass through a ReLU: the channel is divided by a number before it, and the next
    convolution's weights are multiplied by the same number. Channels with large values and small weights get larger
    divisors.

    Returns:
        The channels afterwards.
    """
    channels = dict(channels)
    for first, relu, second in _convolution_pairs(graph):
        name = relu.output[0]
        weight = graph.constant(second.input[1])
        divisors = _divisors(channels[name].highest, np.abs(weight).max(axis=(0, 2, 3)))
        graph.set_constant(first.input[1], graph.constant(first.input[1]) / divisors[:, None, None, None])
        graph.set_constant(first.input[2], graph.constant(first.input[2]) / divisors)
        graph.set_constant(second.input[1], weight * divisors[None, :, None, None])
        channels[name] = channels[name].scaled(1 / divisors)
    return channels


def _convolution_pairs(graph: Graph) -> Iterator[tuple[Node, Node, Node]]:
    """Yield convolution, ReLU and convolution whose intermediate tensors no other node reads."""
    consumers = graph.consumers()
    for first in graph.of_type("Conv"):
        match consumers[first.output[0]]:
            case [relu] if relu.op_type == "Relu":
                match consumers[relu.output[0]]:
                    case [second] if second.op_type == "Conv":
                        yield first, relu, second


def _divisors(highest: Vector, weights: Vector) -> Vector:
    used = (highest > _SILENT) & (weights > 0)
    if not used.any():
        return np.ones_like(highest)
    value, weight = np.where(used, highest, 1), np.where(used, weights, 1)
    divisors = value**STRENGTH / weight ** (1 - STRENGTH)
    # A factor that all channels share would change nothing.
    divisors /= np.exp(np.log(divisors[used]).mean())
    bounded: Vector = np.clip(divisors, 1 / _LARGEST_FACTOR, _LARGEST_FACTOR)
    return np.where(used, bounded, 1).astype(np.float32)


def scales(graph: Graph) -> dict[str, list[Array]]:
    """Name of each convolution's weights → the scales of its output channels."""
    return {node.input[1]: scales_of(graph.constant(node.input[1])) for node in graph.of_type("Conv")}


def scales_of(weights: Array) -> list[Array]:
    """Return the scale of each output channel, float32 scalars; ``weights`` has shape (out, in, height, width).

    Without VNNI, kernels multiply two neighbouring inputs by their weights and add the products in 16 bits, which can
    overflow without an error. The usual remedy, 7-bit weights, costs accuracy on every processor. Here each output
    channel gets the finest scale at which no two neighbours overflow. That is mostly the scale of 8 bits, since large
    weights are seldom neighbours. Neighbours are two channels at the same position; kernels pad an odd number of
    channels.
    """
    rows = np.abs(weights)
    rows = np.pad(rows, ((0, 0), (0, rows.shape[1] % 2), (0, 0), (0, 0)))
    pairs = rows[:, 0::2] + rows[:, 1::2]
    found = np.maximum(_largest(rows) / _LARGEST_WEIGHT, _largest(pairs) / _LARGEST_PAIR)
    # A channel without weights may have any scale but 0.
    return [np.array(scale or 1, dtype=np.float32) for scale in found]


def _largest(rows: Array) -> Array:
    largest: Array = rows.max(axis=(1, 2, 3))
    return largest


def correct_biases(int8: Graph, fp32: Graph, channels: dict[str, Channels]) -> None:
    """Add to each integer bias the average error that rounding the weights causes.

    Args:
        int8: with dequantised constants as inputs of its convolutions; its biases are changed.
        fp32: the network it was made from, with the same node names.
        channels: activations of ``fp32``.
    """
    originals = {node.name: node for node in fp32.of_type("Conv")}
    producers = int8.producers()
    for node in int8.of_type("Conv"):
        weights, biases = producers[node.input[1]], producers[node.input[2]]
        rounded = int8.constant(weights.input[0]).astype(np.float32)
        scale = int8.constant(weights.input[1]).reshape(-1, 1, 1, 1)
        error = fp32.constant(originals[node.name].input[1]) - rounded * scale
        average = error.sum(axis=(2, 3)) @ channels[originals[node.name].input[0]].mean
        bias, unit = int8.constant(biases.input[0]), int8.constant(biases.input[1]).reshape(-1)
        corrected = np.rint(bias + average.astype(np.float64) / unit)
        int8.set_constant(biases.input[0], corrected.astype(np.int32))
