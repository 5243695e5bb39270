"""Moves strides to where they save work; the function of the network stays as it is.

In ResNet-50 v1 a stage begins with two 1x1 convolutions of stride 2, which read every fourth position of what the
stage before has computed. So the block before need not compute the others: its 3x3 convolution takes the stride, and
what it adds is thinned out. That is a tenth of the whole network's arithmetic. In v1.5 there is nothing to move.
"""

from __future__ import annotations

from onnx import helper

from resnet_build.variants.graph import Graph, Node

_STEP = 2


def move_up(graph: Graph) -> None:
    """Move the strides of 1x1 convolutions up as far as all readers of a tensor agree."""
    for tensor in [node.output[0] for node in graph.of_type("Relu")]:
        readers = graph.consumers()[tensor]
        if readers and all(_skips(graph, reader) for reader in readers):
            for reader in readers:
                _set_strides(reader, [1, 1])
            _thin_out(graph, graph.producers()[tensor])
    # The shapes that the exporter noted down are others now.
    del graph.model.graph.value_info[:]


def _skips(graph: Graph, node: Node) -> bool:
    return _is_pointwise(graph, node) and _strides(node) == [_STEP, _STEP]


def _is_pointwise(graph: Graph, node: Node) -> bool:
    return node.op_type == "Conv" and graph.constant(node.input[1]).shape[2:] == (1, 1)


def _thin_out(graph: Graph, node: Node) -> None:
    """Have a node compute every second row and column only."""
    if node.op_type == "Conv" and not _is_pointwise(graph, node):
        _set_strides(node, [_STEP * stride for stride in _strides(node)])
        return
    # A sum has two tensors to thin out, a ReLU or a 1x1 convolution the first of its inputs.
    for position in range(2 if node.op_type == "Add" else 1):
        tensor = node.input[position]
        if graph.consumers()[tensor] == [node]:
            _thin_out(graph, graph.producers()[tensor])
        else:
            node.input[position] = _thinned(graph, tensor)


def _thinned(graph: Graph, tensor: str) -> str:
    name = f"{tensor}_thinned"
    graph.add("MaxPool", [tensor], name, after=graph.producers()[tensor], kernel_shape=[1, 1], strides=[_STEP, _STEP])
    return name


def _strides(node: Node) -> list[int]:
    found = [list(attribute.ints) for attribute in node.attribute if attribute.name == "strides"]
    return found[0] if found else [1, 1]


def _set_strides(node: Node, values: list[int]) -> None:
    others = [attribute for attribute in node.attribute if attribute.name != "strides"]
    del node.attribute[:]
    node.attribute.extend([*others, helper.make_attribute("strides", values)])
