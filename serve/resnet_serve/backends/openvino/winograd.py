"""Fewer multiplications for 3x3 convolutions: Winograd's minimal filtering, written in OpenVINO's own operations.

A convolution with 3x3 weights needs 9 multiplications for each pair of channels at a position. Computed for a tile
of 2x2 positions at once it needs 16 instead of 36, for a tile of 4x4 36 instead of 144, at the price of additions:

1. a linear map turns the window of each tile, 4x4 or 6x6 pixels, into as many terms: one depthwise convolution each;
2. each term is multiplied by its own matrix of weights, channels to channels: one 1x1 convolution each;
3. a linear map turns the products into the tile: sums, and a rearrangement of the pixels.

Source: Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016 (arXiv 1509.09308), sections 4.1
and 4.3, from where the matrices are.

In 32 bits the sums differ in the last digits. In bfloat16 a tile of 2x2 is as exact as the convolution itself; one of
4x4 is not, because its terms are of very different sizes.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt
import openvino as ov
from openvino import opset13 as op

Matrix = npt.NDArray[np.float64]

# Photos that are computed together. The operations cost some microseconds each, whether for one photo or several.
TOGETHER = 2
# Fewer channels have too little work per term to pay for the additions.
_FEWEST_CHANNELS = 64
# The larger the tile, the more of it lies beyond a small map.
_SMALLEST_FOR_LARGE_TILES = 28


@dataclasses.dataclass(frozen=True)
class _Tile:
    """How to compute a tile of ``size`` positions in each direction.

    Attributes:
        size: positions.
        window: (terms, pixels): pixels of the window to terms, ``B`` transposed.
        weights: (terms, 3): the three weights of a direction to terms, ``G``.
        result: (positions, terms): products to positions, ``A`` transposed.
    """

    size: int
    window: Matrix
    weights: Matrix
    result: Matrix


_SMALL = _Tile(
    2,
    np.array([[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]], dtype=float),
    np.array([[2, 0, 0], [1, 1, 1], [1, -1, 1], [0, 0, 2]]) / 2,
    np.array([[1, 1, 1, 0], [0, 1, -1, -1]], dtype=float),
)
_LARGE = _Tile(
    4,
    np.array(
        [
            [4, 0, -5, 0, 1, 0],
            [0, -4, -4, 1, 1, 0],
            [0, 4, -4, -1, 1, 0],
            [0, -2, -1, 2, 1, 0],
            [0, 2, -1, -2, 1, 0],
            [0, 4, 0, -5, 0, 1],
        ],
        dtype=float,
    ),
    np.array([[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]]) / 24,
    np.array([[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]], dtype=float),
)


def for_pairs(model: ov.Model, *, large_tiles: bool) -> ov.Model | None:
    """Fix the batch size at two, and replace what pays of the convolutions: 3x3 weights, stride 1, a border of 1.

    The batch size is fixed because each of the many small operations would find out about its shapes at each execution.

    Args:
        model: in 32 bits, with batches of any size; it is changed.
        large_tiles: whether large maps have tiles of 4x4 positions: in 32 bits, not in 16.

    Returns:
        The model; None where nothing pays: it is quantised, its photos have any size, or it has no such convolutions.
    """
    model.reshape({port: [TOGETHER, *list(port.partial_shape)[1:]] for port in model.inputs})
    if model.is_dynamic() or any(node.get_type_name() == "FakeQuantize" for node in model.get_ops()):
        return None
    found = [node for node in model.get_ordered_ops() if _pays(node)]
    for node in found:
        pixels, weights = node.input_value(0), node.input_value(1).get_node().data
        tile = _LARGE if large_tiles and min(pixels.get_shape()[2:]) >= _SMALLEST_FOR_LARGE_TILES else _SMALL
        replacement = _convolution(pixels, np.asarray(weights, dtype=float), tile)
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


def _convolution(pixels: Any, weights: npt.NDArray[np.float64], tile: _Tile) -> Any:
    """Return the node of the convolution of (N, C, H, W) with weights (K, C, 3, 3): (N, K, H, W)."""
    _, channels, height, width = pixels.get_shape()
    terms = range(len(tile.window))
    matrices = np.einsum("ia,kcab,jb->ijkc", tile.weights, weights, tile.weights, optimize=True)
    products = [
        [_product(_term(pixels, channels, tile, row, column), matrices[row, column]) for column in terms]
        for row in terms
    ]
    rows = [[_sum(of_row, coefficients) for coefficients in tile.result] for of_row in products]
    positions = [
        _sum([row[column] for row in rows], coefficients) for coefficients in tile.result for column in range(tile.size)
    ]
    result = op.depth_to_space(op.concat(positions, 1), "blocks_first", tile.size)
    if height % tile.size or width % tile.size:
        result = op.slice(result, _integers(0, 0), _integers(height, width), _integers(1, 1), _integers(2, 3))
    return result


def _term(pixels: Any, channels: int, tile: _Tile, row: int, column: int) -> Any:
    """One term of all tiles, (N, C, tiles, tiles): a depthwise convolution that leaves zeros of the map out."""
    _, _, *shape = pixels.get_shape()
    kernels, dilations, begins, ends = [], [], [], []
    for size, coefficients in zip(shape, (tile.window[row], tile.window[column]), strict=True):
        places = np.flatnonzero(coefficients)
        kernels.append(coefficients[places])
        dilations.append(int(places[1] - places[0]))
        begins.append(1 - int(places[0]))  # the window begins one pixel before its tile
        last_tile = (-(-size // tile.size) - 1) * tile.size
        ends.append(last_tile + int(places[-1]) - size)
    kernel = np.outer(*kernels).astype(np.float32)
    filters = np.ascontiguousarray(np.broadcast_to(kernel, (channels, 1, 1, *kernel.shape)))
    return op.group_convolution(pixels, op.constant(filters), [tile.size] * 2, begins, ends, dilations)


def _product(term: Any, matrix: npt.NDArray[np.float64]) -> Any:
    filters = np.ascontiguousarray(matrix[:, :, None, None], dtype=np.float32)
    return op.convolution(term, op.constant(filters), [1, 1], [0, 0], [0, 0], [1, 1])


def _sum(terms: list[Any], coefficients: npt.NDArray[np.float64]) -> Any:
    """Return the node of the sum of the terms times their coefficients, the first of which is 1 where it is not 0."""
    result: Any = None
    for term, coefficient in zip(terms, coefficients, strict=True):
        if not coefficient:
            continue
        size = abs(coefficient)
        summand = term if size == 1 else op.multiply(term, op.constant(np.float32(size)))
        if result is None:
            result = summand
        else:
            result = op.add(result, summand) if coefficient > 0 else op.subtract(result, summand)
    return result


def _integers(*values: int) -> Any:
    return op.constant(np.array(values, dtype=np.int64))
