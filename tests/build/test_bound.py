"""The bound on accuracy: intervals against simulated samples, and how many crops it takes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from resnet_build.bound import LEAST_SHARE, by_agreement, by_top1
from resnet_build.network import Network
from resnet_build.serving_options import PLAIN

DRAWS = 200


def exact(crops: np.ndarray) -> list[np.ndarray]:
    """Return the probabilities of two classes; the second one is right for odd crops."""
    return [np.eye(2)[crops % 2]]


def unsure(crops: np.ndarray) -> list[np.ndarray]:
    """Return nearly equal probabilities of four classes, except for the first 50 crops."""
    return [np.where(crops[:, None] < 50, np.eye(4)[0], np.array([0.26, 0.25, 0.25, 0.24]))]


def wrong_on(crops: np.ndarray) -> Network:
    """A network that answers the other class for some crops."""
    is_wrong = np.isin(np.arange(1200), crops)
    return lambda block: [np.eye(2)[(block + is_wrong[block]) % 2]]


def blocks() -> Iterator[np.ndarray]:
    """The numbers from 0 to 1199 as crops."""
    yield from np.arange(1200).reshape(12, 100)


def test_by_top1_rarely_takes_a_network_at_the_bound() -> None:
    """If it keeps exactly 99 % of the reference's 76 %, about 5 % of all samples of 1000 images are above the bound."""
    rng, taken = np.random.default_rng(0), 0
    for _ in range(DRAWS):
        reference = rng.random(1000) < 0.76
        lost = reference & (rng.random(1000) < 0.01 + 0.005 / 0.76)
        gained = ~reference & (rng.random(1000) < 0.005 / 0.24)
        taken += by_top1({PLAIN: reference, "int8": (reference & ~lost) | gained})["int8"].is_enough
    assert 0.02 < taken / DRAWS < 0.08


@pytest.mark.parametrize(("lost", "is_enough"), [(5, True), (8, False)])
def test_by_top1_counts_what_is_lost_and_gained(lost: int, is_enough: bool) -> None:
    """Of 750 images that the reference classifies correctly, and three others."""
    reference = np.arange(1000) < 750
    int8 = reference.copy()
    int8[:lost], int8[-3:] = False, True
    found = by_top1({PLAIN: reference, "int8": int8})["int8"]
    assert found.share == pytest.approx((750 - lost + 3) / 750, abs=1e-4)
    assert found.is_enough == is_enough
    assert str(found).startswith("share of FP32's top-1 on 1000 images: 99.")


def test_by_agreement_rarely_takes_a_network_at_the_bound() -> None:
    """Though it looks at the interval after each block, a network that agrees on 99 % passes in 5 % of all samples."""
    rng, taken = np.random.default_rng(0), 0
    for _ in range(DRAWS):
        network = wrong_on(np.flatnonzero(rng.random(1200) > LEAST_SHARE))
        taken += by_agreement({PLAIN: exact, "int8": network}, blocks())["int8"].is_enough
    assert 0.02 < taken / DRAWS < 0.08


def test_by_agreement_ends_when_all_are_decided() -> None:
    """The sooner, the clearer a network is within the bound or beyond it."""
    networks = {PLAIN: exact, "same": exact, "near": wrong_on(np.array([1, 300])), "far": wrong_on(np.arange(10))}
    found = by_agreement(networks, blocks())
    assert {name: (accuracy.measure, accuracy.is_enough) for name, accuracy in found.items()} == {
        "same": ("same top-1 as FP32 on 400 crops", True),
        "near": ("same top-1 as FP32 on 800 crops", True),
        "far": ("same top-1 as FP32 on 100 crops", False),
    }


def test_by_agreement_leaves_out_crops_without_a_probable_class() -> None:
    """There, any number of bits changes the order of the classes."""
    networks = {PLAIN: unsure, "int8": lambda crops: [np.eye(4)[np.where(crops < 50, 0, 1)]]}
    found = by_agreement(networks, blocks())["int8"]
    assert (found.measure, found.share) == ("same top-1 as FP32 on 50 crops", 1)
    assert not found.is_enough
