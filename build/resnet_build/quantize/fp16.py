"""The FP16 network, for GPUs: it needs half the memory and uses their tensor cores.

Inputs and outputs keep their types: the network casts pixels to 16 bits, and casts features and logits back to 32
bits, so that the softmax (or sigmoid) is computed in 32 bits.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto
from resnet_client.requests import FEATURES, PROBABILITIES

from resnet_build import BuildError, export_onnx
from resnet_build.network import Pixels
from resnet_build.quantize.graph import Graph, Node

METHOD = "weights and activations in 16 bits, softmax in 32"


def convert(source: Path, destination: Path, _: Pixels) -> None:
    """Convert the exported network.

    Args:
        source: the FP32 ONNX artifact.
        destination: file to write; inputs and outputs are those of ``source``.

    Raises:
        BuildError: a weight is too large for 16 bits.
    """
    graph = Graph(onnx.load(source))
    _halve_constants(graph)
    for attribute in graph.only("Cast").attribute:
        if attribute.name == "to":
            attribute.i = TensorProto.FLOAT16
    # The last layer reads the features in 16 bits, before they are cast back.
    _cast_back(graph, FEATURES, in_half=tuple(graph.consumers()[FEATURES]))
    _cast_back(graph, graph.producers()[PROBABILITIES].input[0])
    del graph.model.graph.value_info[:]
    export_onnx.save(graph.model, destination)


def _halve_constants(graph: Graph) -> None:
    largest = np.finfo(np.float16).max
    for name, values in graph.constants().items():
        if values.dtype != np.float32:
            continue
        if np.abs(values).max() > largest:
            raise BuildError(
                f"{name} contains values above {largest:.0f}, the largest FP16 number: these weights cannot become an "
                "FP16 variant"
            )
        graph.set_constant(name, values.astype(np.float16))


def _cast_back(graph: Graph, tensor: str, *, in_half: tuple[Node, ...] = ()) -> None:
    """Compute a tensor in 16 bits under another name, and cast it; nodes ``in_half`` read it before the cast."""
    producer, half = graph.producers()[tensor], f"{tensor}_half"
    producer.output[0] = half
    for node in in_half:
        node.input[list(node.input).index(tensor)] = half
    graph.add("Cast", [half], tensor, after=producer, to=TensorProto.FLOAT)
