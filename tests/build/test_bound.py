"""The bound on accuracy: intervals against simulated samples, and how many crops it takes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from resnet_build.bound import Crops, of_agreement, of_top1
from resnet_build.network import Network

DRAWS = 200


def exact(crops: np.ndarray) -> list[np.ndarray]:
    """Return the probabilities of two classes; the second one is right for odd crops."""
    return [np.eye(2)[crops % 2]]


def unsure(crops: np.ndarray) -> list[np.ndarray]:
    """Return nearly equal probabilities of four classes, except for the first 50 crops."""
    return [np.where(crops[:, None] < 50, np.eye(4)[0], np.array([0.26, 0.25, 0.25, 0.24]))]


def wrong_on(crops: np.ndarray) -> Network:
    """A network that answers the other class for some crops."""
    is_wrong = np.isin(np.arange(500), crops)
    return lambda block: [np.eye(2)[(block + is_wrong[block]) % 2]]


def blocks() -> Iterator[np.ndarray]:
    """The numbers from 0 to 499 as crops."""
    yield from np.arange(500).reshape(5, 100)


def test_of_top1_rarely_takes_a_network_at_the_bound() -> None:
    """If it keeps exactly 99 % of the reference's 76 %, about 5 % of all samples of 1000 images are above the bound."""
    rng, taken = np.random.default_rng(0), 0
    for _ in range(DRAWS):
        reference = rng.random(1000) < 0.76
        lost = reference & (rng.random(1000) < 0.01 + 0.005 / 0.76)
        gained = ~reference & (rng.random(1000) < 0.005 / 0.24)
        taken += of_top1((reference & ~lost) | gained, reference).is_enough
    assert 0.02 < taken / DRAWS < 0.08


@pytest.mark.parametrize(("lost", "is_enough"), [(5, True), (8, False)])
def test_of_top1_counts_what_is_lost_and_gained(lost: int, is_enough: bool) -> None:
    """Of 750 images that the reference classifies correctly, and three others."""
    reference = np.arange(1000) < 750
    int8 = reference.copy()
    int8[:lost], int8[-3:] = False, True
    found = of_top1(int8, reference)
    assert found.share == pytest.approx((750 - lost + 3) / 750, abs=1e-4)
    assert found.is_enough == is_enough
    assert str(found).startswith("share of FP32's top-1 on 1000 images (90% interval): 99.")


@pytest.mark.parametrize(("agreement", "least", "most"), [(0.98, 0, 0.15), (0.998, 0.95, 1)])
def test_of_agreement_recognises_most_networks(agreement: float, least: float, most: float) -> None:
    """A network that differs twice as often as it may rarely passes, and one that differs a fifth as often does."""
    rng, taken = np.random.default_rng(0), 0
    for _ in range(DRAWS):
        network = wrong_on(np.flatnonzero(rng.random(500) > agreement))
        taken += of_agreement(network, Crops(exact, blocks())).is_enough
    assert least <= taken / DRAWS <= most


@pytest.mark.parametrize(
    ("wrong", "crops", "is_enough", "interval"),
    [
        ([], 400, True, "100.0% [99.0, 100.0]"),
        ([*range(10)], 100, False, "90.0% [82.6, 94.5]"),
        ([1, 101, 201, 301, 401], 500, True, "99.0% [97.7, 99.6]"),
        ([1, 101, 201, 301, 401, 402], 500, False, "98.8% [97.4, 99.4]"),
    ],
)
def test_of_agreement_ends_when_the_interval_decides(
    wrong: list[int], crops: int, is_enough: bool, interval: str
) -> None:
    """The sooner, the clearer a network is within the bound or beyond it; after all crops, the share decides."""
    found = of_agreement(wrong_on(np.array(wrong)), Crops(exact, blocks()))
    assert str(found) == f"same top-1 as FP32 on {crops} crops: {interval}"
    assert found.is_enough == is_enough


def test_of_agreement_leaves_out_crops_without_a_probable_class() -> None:
    """There, any number of bits changes the order of the classes."""
    found = of_agreement(lambda crops: [np.eye(4)[np.where(crops < 50, 0, 1)]], Crops(unsure, blocks()))
    assert (found.measure, found.share) == ("same top-1 as FP32 on 50 crops", 1)


def test_crops_ask_the_reference_once_for_each_block() -> None:
    """The second variant is compared on what was computed for the first."""
    asked = []

    def reference(crops: np.ndarray) -> list[np.ndarray]:
        asked.append(len(crops))
        return exact(crops)

    crops = Crops(reference, blocks())
    first, second = (of_agreement(network, crops) for network in (exact, wrong_on(np.arange(10))))
    assert first.is_enough
    assert not second.is_enough
    assert sum(asked) == 400
