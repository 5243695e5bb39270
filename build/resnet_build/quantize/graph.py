"""Finds nodes and constants of an ONNX graph, and changes them in place."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import helper, numpy_helper

from resnet_build import BuildError

Array = npt.NDArray[Any]
Node = Any  # onnx.NodeProto; the package has no annotations


class Graph:
    """A model's graph by names.

    Attributes:
        model: the ``onnx.ModelProto``; all changes are made in it.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        self._constants = {constant.name: constant for constant in model.graph.initializer}

    def of_type(self, *types: str) -> list[Node]:
        """Return the nodes of these types before the global pooling, in their order."""
        head = {node.output[0] for node in self.head()}
        return [node for node in self.model.graph.node if node.op_type in types and node.output[0] not in head]

    def head(self) -> list[Node]:
        """Return the global pooling and all nodes after it, which stay FP32."""
        pooled: set[str] = set()
        nodes = []
        for node in self.model.graph.node:
            if node.op_type.startswith("Reduce") or pooled.intersection(node.input):
                pooled.update(node.output)
                nodes.append(node)
        return nodes

    def only(self, op_type: str) -> Node:
        """Return the one node of a type.

        Raises:
            BuildError: there is none, or there are several.
        """
        found = self.of_type(op_type)
        if len(found) != 1:
            raise BuildError(f"the exported ONNX has {len(found)} nodes {op_type} where one is expected")
        return found[0]

    def constant(self, name: str) -> Array:
        """Return a copy of a constant's values."""
        return np.array(numpy_helper.to_array(self._constants[name]))

    def constants(self) -> dict[str, Array]:
        """Name → values of all constants."""
        return {name: self.constant(name) for name in self._constants}

    def set_constant(self, name: str, values: Array) -> None:
        """Replace a constant's values, or add one."""
        constant = numpy_helper.from_array(np.ascontiguousarray(values), name)
        if name in self._constants:
            self._constants[name].CopyFrom(constant)
        else:
            self.model.graph.initializer.append(constant)
            self._constants[name] = self.model.graph.initializer[-1]

    def producers(self) -> dict[str, Node]:
        """Tensor → the node that computes it."""
        return {output: node for node in self.model.graph.node for output in node.output}

    def consumers(self) -> dict[str, list[Node]]:
        """Tensor → the nodes that read it."""
        found: dict[str, list[Node]] = defaultdict(list)
        for node in self.model.graph.node:
            for name in node.input:
                found[name].append(node)
        return found

    def add(self, op_type: str, inputs: list[str], output: str, *, after: Node = None, **attributes: Any) -> None:
        """Add a node at the end, or after another one: ONNX requires that a tensor is computed before it is read."""
        node = helper.make_node(op_type, inputs, [output], name=f"{op_type}_{output}", **attributes)
        position = len(self.model.graph.node) if after is None else list(self.model.graph.node).index(after) + 1
        self.model.graph.node.insert(position, node)

    def remove(self, *nodes: Node) -> None:
        """Remove nodes."""
        for node in nodes:
            self.model.graph.node.remove(node)

    def own_constants(self, op_type: str) -> None:
        """Give each node of a type weights and a bias that no other node reads.

        Exporters omit biases of zero, and store equal constants once.
        """
        taken: set[str] = set()
        for node in self.of_type(op_type):
            if len(node.input) == 2:  # noqa: PLR2004  # input and weights
                node.input.append(f"{node.name}_bias")
                self.set_constant(node.input[2], np.zeros(len(self.constant(node.input[1])), dtype=np.float32))
            for position in (1, 2):
                if node.input[position] in taken:
                    values = self.constant(node.input[position])
                    node.input[position] += f"_of_{node.name}"
                    self.set_constant(node.input[position], values)
                taken.add(node.input[position])

    def drop_unused_constants(self) -> None:
        """Remove constants that no node reads."""
        used = {name for node in self.model.graph.node for name in node.input}
        for name in [name for name in self._constants if name not in used]:
            self.model.graph.initializer.remove(self._constants.pop(name))
