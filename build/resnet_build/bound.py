"""The bound on accuracy that the network of the default model must reach, with 95 % confidence.

With labelled images, a variant keeps 99 % of the FP32 network's top-1, as in MLPerf. Without, its top-1 class equals
that of the FP32 network on 99 % of crops of the evaluation images. Crops without a probable class are left out: the
bundled images show many things that are no class, and any number of bits would change the order of unlikely classes.
"""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt
from resnet_client.accuracy import wilson_interval

from resnet_build.network import Network, Pixels
from resnet_build.serving_options import PLAIN
from resnet_build.validate import of_two_classes, predict

LEAST_SHARE = 0.99
FEWEST_LABELLED = 1000
# Of 2,400 crops of ImageNet's images, 95 % have a first class above it.
_PROBABLE = 0.3
Flags = npt.NDArray[np.bool_]

_Z = NormalDist().inv_cdf(0.95)


@dataclasses.dataclass(frozen=True)
class Accuracy:
    """A variant compared with the FP32 network.

    Attributes:
        measure: what was compared, on how many images.
        share: what was measured, 0 to 1.
        at_least: lower end of its one-sided 95 % confidence interval.
    """

    measure: str
    share: float
    at_least: float

    @property
    def is_enough(self) -> bool:
        """Whether the variant is within the bound."""
        return self.at_least >= LEAST_SHARE

    def __str__(self) -> str:
        return f"{self.measure}: {self.share:.2%}, at least {self.at_least:.2%}"


def by_top1(right: Mapping[str, Flags]) -> dict[str, Accuracy]:
    """Compare top-1 on labelled images.

    The interval is a paired one: only images that one of two networks classifies correctly count as uncertain. There
    are few of them, so half an image is added to each case (Agresti and Min, 2005).

    Args:
        right: ``onnx`` and the variants → for each image whether the top-1 class is correct, shape (N,).
    """
    reference = right[PLAIN]
    found = {}
    for name, hits in right.items():
        if name != PLAIN:
            both, lost, gained = map(_count, (hits & reference, ~hits & reference, hits & ~reference))
            share = (both + gained) / (both + lost)
            variance = both * (1 - share) ** 2 + lost * share**2 + gained
            at_least = share - _Z * math.sqrt(variance) / (both + lost)
            found[name] = Accuracy(f"share of FP32's top-1 on {len(hits)} images", share, at_least)
    return found


def _count(cases: npt.NDArray[Any]) -> float:
    return float(cases.sum()) + 0.5


def by_agreement(networks: Mapping[str, Network], blocks: Iterable[Pixels]) -> dict[str, Accuracy]:
    """Compare top-1 classes on block after block, until each variant is within the bound or beyond it.

    Args:
        networks: ``onnx`` and the variants, opened.
        blocks: crops, uint8, each of shape (N, size, size, 3).
    """
    undecided = [name for name in networks if name != PLAIN]
    found = {name: Accuracy("same top-1 as FP32 on 0 crops", 0, 0) for name in undecided}
    same: Counter[str] = Counter()
    images = 0
    for pixels in blocks:
        expected = of_two_classes(predict(networks[PLAIN], pixels)[0])
        is_probable = expected.max(axis=1) >= _PROBABLE
        if not is_probable.any():
            continue
        images += int(is_probable.sum())
        for name in undecided.copy():
            got = of_two_classes(predict(networks[name], pixels[is_probable])[0])
            same[name] += int((got.argmax(axis=1) == expected[is_probable].argmax(axis=1)).sum())
            # Each end has 97.5 % confidence. Looked at after every block, that is 95 %.
            at_least, at_most = wilson_interval(same[name] / images, images)
            found[name] = Accuracy(f"same top-1 as FP32 on {images} crops", same[name] / images, at_least)
            if not at_least < LEAST_SHARE <= at_most:
                undecided.remove(name)
        if not undecided:
            break
    return found
