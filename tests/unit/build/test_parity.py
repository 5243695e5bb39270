"""The parity gate lets equal artifacts pass and stops all others."""

from __future__ import annotations

import pytest
import torch
from resnet_build.errors import BuildError
from resnet_build.parity import batches_to_check, check

Answer = tuple[torch.Tensor, torch.Tensor]


def eager(pixels: torch.Tensor) -> Answer:
    """Stand in for a network: class 0 with 0.6, class 1 with 0.4."""
    return torch.tensor([[0.6, 0.4]]).repeat(len(pixels), 1), torch.ones(len(pixels), 4)


@pytest.fixture
def pixels() -> torch.Tensor:
    """Seven photos."""
    return torch.zeros(7, 2, 2, 3, dtype=torch.uint8)


def test_equal_artifacts_pass(pixels: torch.Tensor) -> None:
    """Every artifact is checked at every batch, and the figures come back."""
    results = check(eager, {"a": eager, "b": eager}, pixels, [1, 2, 7])
    assert [(result.artifact, result.batch) for result in results] == [(n, b) for b in (1, 2, 7) for n in "ab"]
    assert all(result.ok and result.max_probability_difference == 0 for result in results)


def test_a_small_difference_fails_with_figures(pixels: torch.Tensor) -> None:
    """2e-4 is too much, and the message says so."""
    with pytest.raises(BuildError, match=r"skewed at batch 7: probabilities differ by at most 2.0e-04"):
        check(eager, {"skewed": lambda x: (eager(x)[0] + torch.tensor([2e-4, -2e-4]), eager(x)[1])}, pixels, [7])


def test_another_top1_fails(pixels: torch.Tensor) -> None:
    """Swapped classes are stopped."""
    with pytest.raises(BuildError, match="top-1 of 2 photos"):
        check(eager, {"swapped": lambda x: (eager(x)[0].flip(1), eager(x)[1])}, pixels, [2])


@pytest.mark.parametrize("wrong", [1.01, float("nan")])
def test_other_features_fail(pixels: torch.Tensor, wrong: float) -> None:
    """They are served as well; what is no number is no small difference either."""
    with pytest.raises(BuildError, match="features by"):
        check(eager, {"rewired": lambda x: (eager(x)[0], wrong * eager(x)[1])}, pixels, [2])


def test_features_that_are_all_zero_are_compared(pixels: torch.Tensor) -> None:
    """Such a network is of no use, but no fault of the export; a feature that differs is one."""
    dead = eager(pixels)[0], torch.zeros(7, 4)
    assert check(lambda _: dead, {"dead": lambda _: dead}, pixels, [7])[0].max_feature_difference == 0
    with pytest.raises(BuildError, match="features by"):
        check(lambda _: dead, {"alive": eager}, pixels, [7])


def test_a_frozen_batch_fails(pixels: torch.Tensor) -> None:
    """An artifact that answers one photo whatever it is asked is stopped."""
    with pytest.raises(BuildError, match=r"shape \(1, 2\) instead of \(7, 2\)"):
        check(eager, {"frozen": lambda x: eager(x[:1])}, pixels, [1, 7])


@pytest.mark.parametrize(("maximum", "expected"), [(32, [1, 2, 7, 32]), (4, [1, 2, 4]), (1, [1]), (7, [1, 2, 7])])
def test_batches(maximum: int, expected: list[int]) -> None:
    """1, 2, 7 and the maximum, none above it."""
    assert batches_to_check(maximum) == expected
