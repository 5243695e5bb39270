"""Two changes to a float network that make it lose less in 8 bits.

Both leave the function of the float network as it is: :func:`equalise` moves factors from one layer to the
next, :func:`correct_biases` only takes back what rounding the weights has done on average.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from resnet_build.variants.graph import Graph, Node
from resnet_build.variants.statistics import Channels, Vector

# Measured at 0.25, 0.5 and 0.75: docs/variants.md.
STRENGTH = 0.25
_LARGEST_FACTOR = 20.0
_SILENT = 1e-6  # a channel that never says more than this


def equalise(graph: Graph, channels: dict[str, Channels]) -> dict[str, Channels]:
    """Make the channels between two convolutions of a block more alike in range.

    An activation has one scale for all its channels, so one loud channel takes the resolution of all others.
    A ReLU lets positive factors through, so what a channel is divided by before, the next convolution's
    weights are multiplied by. Loud channels and small weights get larger divisors.

    Returns:
        The channels after it.
    """
    channels = dict(channels)
    for first, relu, second in _pairs(graph):
        name = relu.output[0]
        weight = graph.constant(second.input[1])
        divisors = _divisors(channels[name].highest, np.abs(weight).max(axis=(0, 2, 3)))
        graph.set_constant(first.input[1], graph.constant(first.input[1]) / divisors[:, None, None, None])
        graph.set_constant(first.input[2], graph.constant(first.input[2]) / divisors)
        graph.set_constant(second.input[1], weight * divisors[None, :, None, None])
        channels[name] = channels[name].scaled(1 / divisors)
    return channels


def _pairs(graph: Graph) -> Iterator[tuple[Node, Node, Node]]:
    """Convolution, ReLU, convolution, where nobody else reads what lies between."""
    consumers = graph.consumers()
    for first in graph.of_type("Conv"):
        match consumers[first.output[0]]:
            case [relu] if relu.op_type == "Relu":
                match consumers[relu.output[0]]:
                    case [second] if second.op_type == "Conv":
                        yield first, relu, second


def _divisors(loudness: Vector, weights: Vector) -> Vector:
    speaking = (loudness > _SILENT) & (weights > 0)
    if not speaking.any():
        return np.ones_like(loudness)
    loud, weight = np.where(speaking, loudness, 1), np.where(speaking, weights, 1)
    divisors = loud**STRENGTH / weight ** (1 - STRENGTH)
    # What all channels have in common would change nothing.
    divisors /= np.exp(np.log(divisors[speaking]).mean())
    bounded: Vector = np.clip(divisors, 1 / _LARGEST_FACTOR, _LARGEST_FACTOR)
    return np.where(speaking, bounded, 1).astype(np.float32)


def correct_biases(quantised: Graph, original: Graph, channels: dict[str, Channels]) -> None:
    """Add to each integer bias what the rounded weights miss of an average photo.

    Args:
        quantised: with dequantised constants as inputs of its convolutions; its biases are changed.
        original: the float network it was made from, with the same node names.
        channels: the float network's activations.
    """
    floats = {node.name: node for node in original.of_type("Conv")}
    producers = quantised.producers()
    for node in quantised.of_type("Conv"):
        weights, biases = producers[node.input[1]], producers[node.input[2]]
        rounded = quantised.constant(weights.input[0]).astype(np.float32)
        scale = quantised.constant(weights.input[1]).reshape(-1, 1, 1, 1)
        lost = original.constant(floats[node.name].input[1]) - rounded * scale
        missed = lost.sum(axis=(2, 3)) @ channels[floats[node.name].input[0]].mean
        bias, unit = quantised.constant(biases.input[0]), quantised.constant(biases.input[1]).reshape(-1)
        corrected = np.rint(bias + missed.astype(np.float64) / unit)
        quantised.set_constant(biases.input[0], corrected.astype(np.int32))
