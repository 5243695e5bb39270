"""Validation before publication: compares exports and variants with the network that they were made from."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping

import numpy as np

from resnet_build import BuildError
from resnet_build.network import Floats, Network, Outputs, Pixels

MAX_PROBABILITY_DIFFERENCE = 1e-4
# As a share of the largest feature, because the range of features depends on the weights.
MAX_FEATURE_DIFFERENCE = 1e-4
# If the first class leads by less, either of the two classes may be right, so a different top-1 is not an error.
CLEAR_LEAD = 0.1
# 64 images in batches of 7 leave one, so one pass runs two batch sizes.
_BATCH = 7


@dataclasses.dataclass(frozen=True)
class ExportDifference:
    """One export compared with the eager network at one batch size.

    Attributes:
        artifact: name of the artifact.
        batch: images per call.
        max_probability_difference: largest absolute difference of any probability, 0 to 1.
        max_feature_difference: largest difference of any feature, as a share of the largest feature.
        top1_differences: images whose most probable class differs.
    """

    artifact: str
    batch: int
    max_probability_difference: float
    max_feature_difference: float
    top1_differences: int

    @property
    def ok(self) -> bool:
        """Whether the export may be published."""
        return (
            self.max_probability_difference <= MAX_PROBABILITY_DIFFERENCE
            and self.max_feature_difference <= MAX_FEATURE_DIFFERENCE
            and self.top1_differences == 0
        )

    def __str__(self) -> str:
        return (
            f"{self.artifact} at batch {self.batch}: probabilities differ by at most "
            f"{self.max_probability_difference:.1e}, features by {self.max_feature_difference:.1e} of the "
            f"largest feature; the top-1 class differs for {self.top1_differences} images"
        )


def batches_to_check(max_batch_size: int) -> list[int]:
    """Return the batch sizes to validate: 1, 2, 7 and the maximum, because an exporter can freeze the batch size."""
    return sorted({size for size in (1, 2, 7, max_batch_size) if size <= max_batch_size})


def check_exports(
    eager: Network, exports: Mapping[str, Network], pixels: Pixels, batches: Iterable[int]
) -> list[ExportDifference]:
    """Compare exports with the eager network.

    Args:
        eager: the reference; run once on all of ``pixels``.
        exports: name → opened artifact.
        pixels: uint8, shape (N, size, size, 3), with N at least the largest batch.
        batches: sizes to run each export with.

    Raises:
        BuildError: a difference is too large; the message contains the numbers.
    """
    probabilities, features = eager(pixels)
    largest = float(np.abs(features).max()) or 1.0  # all features are 0 if the weights of the last norms are 0
    results = []
    for batch in batches:
        for name, run in exports.items():
            got_probabilities, got_features = run(pixels[:batch])
            expected = probabilities[:batch]
            results.append(
                ExportDifference(
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
            "an exported artifact differs too much from the PyTorch network (limits: probabilities "
            f"{MAX_PROBABILITY_DIFFERENCE:.0e}, features {MAX_FEATURE_DIFFERENCE:.0e} of the largest feature, no "
            "different top-1 class); nothing was written. Report this with your weights. " + "; ".join(failed)
        )
    return results


def _distance(got: Floats, expected: Floats) -> float:
    if got.shape != expected.shape:
        raise BuildError(f"an exported artifact returns shape {got.shape} instead of {expected.shape}")
    return float(np.abs(got - expected).max())


@dataclasses.dataclass(frozen=True)
class Bounds:
    """Accuracy that a variant must reach.

    Attributes:
        agreement: share of the clear images with the same top-1, 0 to 1.
        similarity: mean cosine of the features, −1 to 1.
    """

    agreement: float
    similarity: float


@dataclasses.dataclass(frozen=True)
class Fidelity:
    """A variant compared with the FP32 network.

    Attributes:
        images: how many images were compared.
        clear_images: those whose first class leads by 0.1 or more in the FP32 network.
        agreement: share of all images with the same top-1, 0 to 1.
        clear_agreement: the same share of the clear images; 1 if there are none.
        probability_difference: mean over the images of the largest difference of any probability.
        similarity: mean cosine of the features with those of the FP32 network.
    """

    images: int
    clear_images: int
    agreement: float
    clear_agreement: float
    probability_difference: float
    similarity: float

    def __str__(self) -> str:
        return (
            f"the same top-1 on {self.agreement:.1%} of {self.images} images and on {self.clear_agreement:.1%} of "
            f"the {self.clear_images} clear images (top probability at least {CLEAR_LEAD:g} above the second), mean "
            f"cosine of the features {self.similarity:.4f}"
        )


def check_variant(name: str, got: Outputs, expected: Outputs, bounds: Bounds) -> Fidelity:
    """Compare a variant with the FP32 network, and refuse it if it differs too much.

    Args:
        name: of the variant, for the message.
        got: its outputs for images that were not used for calibration.
        expected: those of the FP32 network.
        bounds: accuracy that it must reach.

    Raises:
        BuildError: it does not reach them; the message contains the numbers.
    """
    found = compare(got, expected)
    # Written so that NaN fails.
    if not (found.clear_agreement >= bounds.agreement and found.similarity >= bounds.similarity):
        raise BuildError(
            f"the variant {name} differs too much from the FP32 network ({found}; required: the same top-1 on "
            f"{bounds.agreement:.0%} of the clear images, and a cosine of "
            f"{bounds.similarity:g}); it was not written. For int8, calibrate with "
            "images similar to those that will be served: --calibration-images"
        )
    return found


def compare(got: Outputs, expected: Outputs) -> Fidelity:
    """Compare probabilities, shape (N, classes), and features, shape (N, 2048), with those of the FP32 network."""
    (probabilities, features), (true_probabilities, true_features) = got, expected
    probabilities, true_probabilities = of_two_classes(probabilities), of_two_classes(true_probabilities)
    ranked = np.sort(true_probabilities, axis=1)
    clear = ranked[:, -1] - ranked[:, -2] >= CLEAR_LEAD
    same = probabilities.argmax(axis=1) == true_probabilities.argmax(axis=1)
    norms = np.linalg.norm(features, axis=1) * np.linalg.norm(true_features, axis=1)
    return Fidelity(
        images=len(same),
        clear_images=int(clear.sum()),
        agreement=float(same.mean()),
        clear_agreement=float(same[clear].mean()) if clear.any() else 1.0,
        probability_difference=float(np.abs(probabilities - true_probabilities).max(axis=1).mean()),
        similarity=float(((features * true_features).sum(axis=1) / norms).mean()),
    )


def of_two_classes(probabilities: Floats) -> Floats:
    """Put the probability of no before that of yes, if a network has this one only."""
    return np.hstack([1 - probabilities, probabilities]) if probabilities.shape[1] == 1 else probabilities


def predict(network: Network, pixels: Pixels) -> Outputs:
    """Run preprocessed images through a network: uint8, shape (N, size, size, 3)."""
    batches = [network(pixels[start : start + _BATCH]) for start in range(0, len(pixels), _BATCH)]
    return [np.concatenate(parts) for parts in zip(*batches, strict=True)]
