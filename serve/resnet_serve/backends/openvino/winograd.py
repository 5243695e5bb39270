"""Fewer multiplications for 3x3 convolutions: Winograd's minimal filtering, written in OpenVINO's own operations.

A convolution with 3x3 weights needs 9 multiplications for each pair of channels at a position. Computed for a tile
of 2x2 positions at once it needs 16 instead of 36, at the price of additions:

1. a linear map turns the window of each tile, 4x4 pixels, into 16 terms: a depthwise convolution of 2x2 for each;
2. each term is multiplied by its own matrix of weights, channels to channels: a 1x1 convolution for each;
3. a linear map turns the 16 products into the 4 positions: sums, and a rearrangement.

Source: Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016 (arXiv 1509.09308), section 4.1,
from where the matrices are. Tiles of 4x4, section 4.3, need 36 instead of 144, but with two instances under load no
less time: their weights take twice as much memory again, and bfloat16 loses digits in them.

``resnet_build.variants`` has a link to this file, so that what the build judges is what is served.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import openvino as ov
from openvino import opset13 as op

Matrix = npt.NDArray[np.float64]

# Photos that are computed together. The operations cost some microseconds each, whether for one photo or several.
TOGETHER = 2
# Fewer have too little work per term to pay for the additions.
_FEWEST_CHANNELS = 64

_TILE = 2
_WINDOW = np.array([[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]], dtype=float)  # terms, pixels
_WEIGHTS = np.array([[2, 0, 0], [1, 1, 1], [1, -1, 1], [0, 0, 2]]) / 2  # terms, weights
_RESULT = np.array([[1, 1, 1, 0], [0, 1, -1, -1]], dtype=float)  # positions, products


def for_pairs(model: ov.Model) -> ov.Model | None:
    """Fix the batch size at two, and replace what pays of the convolutions: 3x3 weights, stride 1, a border of 1.

    The batch size is fixed because each of the many small operations would find out about its shapes at each execution.

    Args:
        model: in 32 bits, with batches of any size; it is changed.

    Returns:
        The model; None where nothing pays, because it is quantised, its photos have any size, or it has no such
        convolutions, and where it does not take two photos.
    """
    if any(port.partial_shape.rank.is_dynamic for port in model.inputs):
        return None
    try:
        model.reshape({port: [TOGETHER, *list(port.partial_shape)[1:]] for port in model.inputs})
    except RuntimeError:  # something inside is made for another number
        return None
    if model.is_dynamic() or any(node.get_type_name() == "FakeQuantize" for node in model.get_ops()):
        return None
    found = [node for node in model.get_ordered_ops() if _pays(node)]
    for node in found:
        weights = np.asarray(node.input_value(1).get_node().data, dtype=float)
        replacement = _convolution(node.input_value(0), weights)
        for reader in node.output(0).get_target_inputs():
            reader.replace_source_output(replacement.output(0))
    model.validate_nodes_and_infer_types()
    return model if found else None


def _pays(node: Any) -> bool:
    if node.get_type_name() != "Convolution" or node.input_value(1).get_node().get_type_name() != "Constant":
        return False
    filters, channels, *kernel = node.input_value(1).get_shape()
    attributes = node.get_attributes()
    return (
        kernel == [3, 3]
        and min(filters, channels) >= _FEWEST_CHANNELS
        and node.input_value(1).get_element_type() == ov.Type.f32
        and [attributes[name] for name in ("strides", "dilations", "pads_begin", "pads_end")] == [[1, 1]] * 4
        and attributes["auto_pad"] == "explicit"
    )


def _convolution(pixels: Any, weights: Matrix) -> Any:
    """Return the node of the convolution of (N, C, H, W) with weights (K, C, 3, 3): (N, K, H, W)."""
    *_, height, width = pixels.get_shape()
    matrices = np.einsum("ia,kcab,jb->ijkc", _WEIGHTS, weights, _WEIGHTS, optimize=True)
    products = [[_product(_term(pixels, i, j), matrices[i, j]) for j in range(4)] for i in range(4)]
    rows = [[_sum(terms, signs) for signs in _RESULT] for terms in products]
    positions = [_sum([row[column] for row in rows], signs) for signs in _RESULT for column in range(_TILE)]
    result = op.depth_to_space(op.concat(positions, 1), "blocks_first", _TILE)
    if height % _TILE or width % _TILE:
        result = op.slice(result, _integers(0, 0), _integers(height, width), _integers(1, 1), _integers(2, 3))
    return result


def _term(pixels: Any, row: int, column: int) -> Any:
    """One term of all tiles, (N, C, H / 2, W / 2): of a row and a column of the map, only two pixels are not 0."""
    _, channels, *shape = pixels.get_shape()
    kernels, dilations, begins, ends = [], [], [], []
    for size, coefficients in zip(shape, (_WINDOW[row], _WINDOW[column]), strict=True):
        first, second = (int(place) for place in np.flatnonzero(coefficients))
        kernels.append(coefficients[[first, second]])
        dilations.append(second - first)
        begins.append(1 - first)  # the window begins one pixel before its tile
        ends.append(second - 2 + size % _TILE)
    filters = np.broadcast_to(np.outer(*kernels).astype(np.float32), (channels, 1, 1, 2, 2))
    constant = op.constant(np.ascontiguousarray(filters))
    return op.group_convolution(pixels, constant, [_TILE, _TILE], begins, ends, dilations)


def _product(term: Any, matrix: Matrix) -> Any:
    filters = np.ascontiguousarray(matrix[:, :, None, None], dtype=np.float32)
    return op.convolution(term, op.constant(filters), [1, 1], [0, 0], [0, 0], [1, 1])


def _sum(terms: list[Any], signs: Matrix) -> Any:
    """Return the node of the sum of terms with signs 1, -1 or 0; of the first that counts it is 1."""
    first, *others = [(term, sign) for term, sign in zip(terms, signs, strict=True) if sign]
    result = first[0]
    for term, sign in others:
        result = op.add(result, term) if sign > 0 else op.subtract(result, term)
    return result


def _integers(*values: int) -> Any:
    return op.constant(np.array(values, dtype=np.int64))
