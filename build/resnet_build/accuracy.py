"""Evaluates how far a variant may differ from the FP32 network that it is made from."""

from __future__ import annotations

import dataclasses

import numpy as np

from resnet_build.engines import Network, Outputs
from resnet_build.errors import BuildError
from resnet_build.quantize.calibration import Pixels

# Where the first class leads by less, either of two classes would be right, so a change means nothing.
CLEAR_LEAD = 0.1
# Seven at a time, and one is left over: two batch sizes in one pass.
_BATCH = 7


@dataclasses.dataclass(frozen=True)
class Bounds:
    """What a variant must reach.

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
        photos: how many images were compared.
        clear_photos: those whose first class leads by 0.1 or more in the FP32 network.
        agreement: share of all images with the same top-1, 0 to 1.
        clear_agreement: the same of the clear images; 1 if there are none.
        probability_difference: mean over the images of the largest difference of any probability.
        similarity: mean cosine of the features with those of the FP32 network.
    """

    photos: int
    clear_photos: int
    agreement: float
    clear_agreement: float
    probability_difference: float
    similarity: float

    def __str__(self) -> str:
        return (
            f"the same top-1 on {self.agreement:.1%} of {self.photos} images and on {self.clear_agreement:.1%} of "
            f"the {self.clear_photos} clear ones, mean cosine of the features {self.similarity:.4f}"
        )


def check(name: str, got: Outputs, expected: Outputs, bounds: Bounds) -> Fidelity:
    """Compare a variant with the FP32 network, and refuse it if it differs too much.

    Args:
        name: of the variant, for the message.
        got: its outputs for images that its ranges were not taken from.
        expected: those of the FP32 network.
        bounds: what it must reach.

    Raises:
        BuildError: it does not; the message holds the numbers.
    """
    found = compare(got, expected)
    # Written so that NaN fails.
    if not (found.clear_agreement >= bounds.agreement and found.similarity >= bounds.similarity):
        raise BuildError(
            f"the variant {name} differs too much from the FP32 network ({found}; required: {bounds.agreement:.0%} of "
            f"the clear ones and a cosine of {bounds.similarity:g}); it was not written. For int8, images like those "
            "to be served help: --calibration-images"
        )
    return found


def compare(got: Outputs, expected: Outputs) -> Fidelity:
    """Compare probabilities, shape (N, classes), and features, shape (N, 2048), with those of the FP32 network."""
    (probabilities, features), (true_probabilities, true_features) = got, expected
    # With an impossible class in front, so that a network with one class has a lead, too.
    ranked = np.sort(np.pad(true_probabilities, ((0, 0), (1, 0))), axis=1)
    clear = ranked[:, -1] - ranked[:, -2] >= CLEAR_LEAD
    same = probabilities.argmax(axis=1) == true_probabilities.argmax(axis=1)
    norms = np.linalg.norm(features, axis=1) * np.linalg.norm(true_features, axis=1)
    return Fidelity(
        photos=len(same),
        clear_photos=int(clear.sum()),
        agreement=float(same.mean()),
        clear_agreement=float(same[clear].mean()) if clear.any() else 1.0,
        probability_difference=float(np.abs(probabilities - true_probabilities).max(axis=1).mean()),
        similarity=float(((features * true_features).sum(axis=1) / norms).mean()),
    )


def predict(network: Network, pixels: Pixels) -> Outputs:
    """Run prepared images through a network: uint8, shape (N, 224, 224, 3)."""
    batches = [network(pixels[start : start + _BATCH]) for start in range(0, len(pixels), _BATCH)]
    probabilities, features = (np.concatenate(parts) for parts in zip(*batches, strict=True))
    return probabilities, features
