"""Lets an integer network read the pixels as they are, instead of normalising and quantising them.

Pixels are integers already. With the normalisation folded into the first convolution, its input is ``pixels - 128``:
exactly what a signed 8-bit tensor of scale 1 means, so nothing is rounded. Only beyond the border is it an
approximation: there lies 128 where the channel's own mean should lie, up to 24 of 255 away.
"""

from __future__ import annotations

import numpy as np

from resnet_build.variants.graph import Graph

_ZERO = np.float32(128)
_ZERO_NAME = "pixel_zero"


def fold_normalisation(graph: Graph) -> str:
    """Fold mean and standard deviation into the first convolution.

    Returns:
        Name of its input from now on.
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
