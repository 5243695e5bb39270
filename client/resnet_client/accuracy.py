"""Statistics of classifications of images whose classes are known."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_BINS = 10
_Z = 1.96  # of a 95 % interval


@dataclasses.dataclass(frozen=True)
class Bin:
    """The images whose top-1 probability is in one tenth of 0 to 1.

    Attributes:
        low: its lower end.
        right: how many images have the right class.
        images: how many there are.
        probability: sum of their top-1 probabilities.
    """

    low: float
    right: int
    images: int
    probability: float


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Two models on the images with a result of both.

    Attributes:
        first: name of a model.
        second: name of the other model.
        agreement: share of the images whose top-1 class is the same, 0 to 1.
        only_first_right: images whose class only the first model found.
        only_second_right: images whose class only the second model found.
        difference: top-1 of the first minus that of the second, -1 to 1.
        difference_interval: its 95 % interval (Bonett and Price, for paired shares).
        p_value: of McNemar's exact test: how probable so large a difference is if both are equally accurate.
    """

    first: str
    second: str
    agreement: float
    only_first_right: int
    only_second_right: int
    difference: float
    difference_interval: tuple[float, float]
    p_value: float


def wilson_interval(share: float, count: int) -> tuple[float, float]:
    """95 % interval (Wilson's score) of a share, 0 to 1, that was seen in ``count`` images, at least one."""
    weight = _Z**2 / count
    middle = (share + weight / 2) / (1 + weight)
    spread = _Z * math.sqrt(share * (1 - share) / count + weight / (4 * count)) / (1 + weight)
    return max(0.0, middle - spread), min(1.0, middle + spread)


def calibration(top: Sequence[tuple[float, bool]]) -> list[Bin]:
    """Compare probabilities with accuracy in ten bins of equal width.

    Args:
        top: for each image the probability of its top-1 class, 0 to 1, and whether that class is right.
    """
    bins: list[list[tuple[float, bool]]] = [[] for _ in range(_BINS)]
    for probability, is_right in top:
        bins[min(int(probability * _BINS), _BINS - 1)].append((probability, is_right))
    return [
        Bin(number / _BINS, sum(right for _, right in found), len(found), sum(p for p, _ in found))
        for number, found in enumerate(bins)
    ]


def calibration_error(bins: Sequence[Bin]) -> float:
    """Expected calibration error: mean distance between probability and accuracy, 0 to 1; 0 without images."""
    return sum(abs(found.right - found.probability) for found in bins) / max(1, sum(found.images for found in bins))


def compare(first: str, second: str, found: Sequence[tuple[int, int, int]]) -> Comparison:
    """Compare two models.

    Args:
        first: name of a model.
        second: name of the other model.
        found: for each image with a result of both: its class, and the top-1 classes of the two models.
    """
    only_first = sum(a == true != b for true, a, b in found)
    only_second = sum(b == true != a for true, a, b in found)
    return Comparison(
        first=first,
        second=second,
        agreement=sum(a == b for _, a, b in found) / max(1, len(found)),
        only_first_right=only_first,
        only_second_right=only_second,
        difference=(only_first - only_second) / max(1, len(found)),
        difference_interval=_difference_interval(only_first, only_second, len(found)),
        p_value=_mcnemar(only_first, only_second),
    )


def _difference_interval(only_first: int, only_second: int, count: int) -> tuple[float, float]:
    first, second = (only_first + 1) / (count + 2), (only_second + 1) / (count + 2)
    spread = _Z * math.sqrt((first + second - (first - second) ** 2) / (count + 2))
    return max(-1.0, first - second - spread), min(1.0, first - second + spread)


def _mcnemar(only_first: int, only_second: int) -> float:
    """Twice the lower tail of a binomial distribution with probability 1/2."""
    count = only_first + only_second
    scale = math.lgamma(count + 1) - count * math.log(2)
    fewer = range(min(only_first, only_second) + 1)
    return min(1.0, 2 * sum(math.exp(scale - math.lgamma(hits + 1) - math.lgamma(count - hits + 1)) for hits in fewer))
