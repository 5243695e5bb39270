"""The bound on accuracy that the network of the default model must reach.

With labelled images, a variant keeps 99 % of the FP32 network's top-1, as in MLPerf. Without, its top-1 class equals
that of the FP32 network on 99 % of crops of the evaluation images. Crops without a probable class are left out: the
bundled images show many things that are no class, and any number of bits would change the order of unlikely classes.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt
from resnet_client.accuracy import wilson_interval

from resnet_build.network import Network, Pixels
from resnet_build.validate import of_two_classes, predict

LEAST_SHARE = 0.99
FEWEST_LABELLED = 1000
# Of 2,400 crops of ImageNet's images, 95 % have a first class above it.
_PROBABLE = 0.3
Flags = npt.NDArray[np.bool_]
Probabilities = npt.NDArray[np.float32]

_Z = NormalDist().inv_cdf(0.95)


@dataclasses.dataclass(frozen=True)
class Accuracy:
    """A variant compared with the FP32 network.

    Attributes:
        measure: what was compared, on how many images.
        share: what was measured, 0 to 1.
        interval: its confidence interval.
        is_enough: whether the variant is within the bound.
    """

    measure: str
    share: float
    interval: tuple[float, float]
    is_enough: bool

    def __str__(self) -> str:
        low, high = self.interval
        return f"{self.measure}: {self.share:.1%} [{100 * low:.1f}, {100 * high:.1f}]"


def of_top1(right: Flags, reference: Flags) -> Accuracy:
    """Compare top-1 on labelled images; the lower end of the interval decides, with 95 % confidence.

    The interval is a paired one: only images that one of two networks classifies correctly count as uncertain. There
    are few of them, so half an image is added to each case (Agresti and Min, 2005).

    Args:
        right: for each image whether the variant's top-1 class is correct, shape (N,).
        reference: the same of the FP32 network.
    """
    both, lost, gained = map(_count, (right & reference, ~right & reference, right & ~reference))
    share = (both + gained) / (both + lost)
    variance = both * (1 - share) ** 2 + lost * share**2 + gained
    spread = _Z * math.sqrt(variance) / (both + lost)
    measure = f"share of FP32's top-1 on {len(right)} images (90% interval)"
    return Accuracy(measure, share, (share - spread, share + spread), share - spread >= LEAST_SHARE)


def _count(cases: npt.NDArray[Any]) -> float:
    return float(cases.sum()) + 0.5


class Crops:
    """Blocks of crops with what the FP32 network returns for them, each computed once for all variants.

    Args:
        reference: the FP32 network.
        blocks: crops, uint8, each of shape (N, size, size, 3).
    """

    def __init__(self, reference: Network, blocks: Iterable[Pixels]) -> None:
        self._known: list[tuple[Pixels, Probabilities]] = []
        self._new = ((pixels, of_two_classes(predict(reference, pixels)[0])) for pixels in blocks)

    def __iter__(self) -> Iterator[tuple[Pixels, Probabilities]]:
        """Yield crops, and their probabilities of two or more classes, float32, shape (N, classes)."""
        yield from self._known
        for block in self._new:
            self._known.append(block)
            yield block


def of_agreement(network: Network, crops: Crops) -> Accuracy:
    """Compare top-1 classes on block after block, until the 95 % interval is on one side of the bound.

    If it never is, the share itself decides.

    Args:
        network: the variant.
        crops: to compare on.
    """
    same = images = 0
    interval = (0.0, 1.0)
    for pixels, expected in crops:
        is_probable = expected.max(axis=1) >= _PROBABLE
        if not is_probable.any():
            continue
        got = of_two_classes(predict(network, pixels[is_probable])[0])
        same += int((got.argmax(axis=1) == expected[is_probable].argmax(axis=1)).sum())
        images += len(got)
        interval = wilson_interval(same / images, images)
        if not interval[0] < LEAST_SHARE <= interval[1]:
            break
    share = same / max(images, 1)
    return Accuracy(f"same top-1 as FP32 on {images} crops", share, interval, share >= LEAST_SHARE)
