"""The gate between export and publication: every artifact must compute what the eager network computes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping

import torch

from resnet_build.errors import BuildError

MAX_PROBABILITY_DIFFERENCE = 1e-4
# Of the largest feature: how large features are is up to the weights.
MAX_FEATURE_DIFFERENCE = 1e-4

Runner = Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]


@dataclasses.dataclass(frozen=True)
class Parity:
    """One artifact against the eager network at one batch size.

    Attributes:
        artifact: name of the artifact.
        batch: photos per call.
        max_probability_difference: largest absolute difference of any probability, 0 to 1.
        max_feature_difference: largest difference of any feature, as a share of the largest feature.
        top1_differences: photos whose most probable class differs.
    """

    artifact: str
    batch: int
    max_probability_difference: float
    max_feature_difference: float
    top1_differences: int

    @property
    def ok(self) -> bool:
        """Whether the artifact may be published."""
        return (
            self.max_probability_difference <= MAX_PROBABILITY_DIFFERENCE
            and self.max_feature_difference <= MAX_FEATURE_DIFFERENCE
            and self.top1_differences == 0
        )

    def __str__(self) -> str:
        return (
            f"{self.artifact} at batch {self.batch}: probabilities differ by at most "
            f"{self.max_probability_difference:.1e}, features by {self.max_feature_difference:.1e} of the "
            f"largest, top-1 of {self.top1_differences} photos"
        )


def batches_to_check(max_batch_size: int) -> list[int]:
    """Return the batch sizes of the gate: 1, 2, 7 and the maximum. Exporters can freeze the first of these."""
    return sorted({size for size in (1, 2, 7, max_batch_size) if size <= max_batch_size})


def check(eager: Runner, artifacts: Mapping[str, Runner], pixels: torch.Tensor, batches: Iterable[int]) -> list[Parity]:
    """Compare artifacts with the eager network.

    Args:
        eager: the reference; run once on all of ``pixels``.
        artifacts: name → runner of the saved file.
        pixels: uint8, shape (N, 224, 224, 3), with N at least the largest batch.
        batches: sizes to run each artifact with.

    Raises:
        BuildError: a difference is too large; the message holds the figures.
    """
    probabilities, features = eager(pixels)
    largest = float(features.abs().max()) or 1.0  # all are 0 where the last norms are
    results = []
    for batch in batches:
        for name, run in artifacts.items():
            got_probabilities, got_features = run(pixels[:batch])
            expected = probabilities[:batch]
            results.append(
                Parity(
                    artifact=name,
                    batch=batch,
                    max_probability_difference=_distance(got_probabilities, expected),
                    max_feature_difference=_distance(got_features, features[:batch]) / largest,
                    top1_differences=int((got_probabilities.argmax(1) != expected.argmax(1)).sum()),
                )
            )
    failed = [str(result) for result in results if not result.ok]
    if failed:
        raise BuildError(
            "an exported artifact does not compute what the network computes "
            f"(allowed: {MAX_PROBABILITY_DIFFERENCE:.0e}, features by {MAX_FEATURE_DIFFERENCE:.0e} of the largest, and "
            "no other top-1); nothing was written. " + "; ".join(failed)
        )
    return results


def _distance(got: torch.Tensor, expected: torch.Tensor) -> float:
    if got.shape != expected.shape:
        raise BuildError(
            f"an exported artifact answers with shape {tuple(got.shape)} instead of {tuple(expected.shape)}"
        )
    return float((got - expected).abs().max())
