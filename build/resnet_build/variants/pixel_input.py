"""Lets an integer network read the pixels as they are, instead of normalising and quantising them.

Pixels are integers already. With the normalisation folded into the first convolution, its input is
``pixels - zero`` with one whole number ``zero`` for all channels: exactly what an unsigned 8-bit tensor of scale 1
and zero point ``zero`` means. So the network's first four steps disappear, and so does the error that
quantising normalised pixels would add. Only beyond the border is it an approximation: there lies ``zero``
where the channel's own mean should lie, up to 10 of 255 away.
"""

from __future__ import annotations

import numpy as np

from resnet_build.variants.graph import Graph

ZERO = "pixel_zero"


def fold_normalisation(graph: Graph) -> str:
    """Fold mean and standard deviation into the first convolution.

    Returns:
        Name of its input from now on.
    """
    sub, div = graph.only("Sub"), graph.only("Div")
    conv = graph.of_type("Conv")[0]
    mean, std = (graph.constant(node.input[1]).reshape(-1) for node in (sub, div))
    zero = np.float32(np.rint(mean.mean()))
    weight = graph.constant(conv.input[1]) / std[None, :, None, None]
    shift = (weight * (zero - mean)[None, :, None, None]).sum(axis=(1, 2, 3))
    bias = graph.constant(conv.input[2]) + shift
    graph.set_constant(conv.input[1], weight)
    graph.set_constant(conv.input[2], bias)
    graph.set_constant(ZERO, np.array(zero))
    sub.input[1] = ZERO
    conv.input[0] = sub.output[0]
    graph.remove(div)
    graph.drop_unused_constants()
    return str(sub.output[0])


def skip_arithmetic(graph: Graph) -> None:
    """In the quantised graph, replace cast, subtraction and quantisation by the pixels themselves."""
    cast, sub = graph.only("Cast"), graph.only("Sub")
    (quantise,) = graph.consumers()[sub.output[0]]
    for reader in graph.consumers()[quantise.output[0]]:
        reader.input[0] = cast.input[0]
    graph.remove(cast, sub, quantise)
    graph.drop_unused_constants()
