"""The gate of the variants: how far one of them may be from the float network that it was made from."""

from __future__ import annotations

import dataclasses

import numpy as np

from resnet_build.errors import BuildError
from resnet_build.variants.calibration import Pixels
from resnet_build.variants.engines import Floats, Network

# Where the first class leads by less, the photo could be either: that it tips over tells nothing.
CLEAR_LEAD = 0.1
# Seven at a time, and one is left over: two batch sizes in one pass.
_BATCH = 7

# Probabilities, shape (N, classes), and features, shape (N, 2048).
Answers = tuple[Floats, Floats]


@dataclasses.dataclass(frozen=True)
class Bounds:
    """What a variant must reach.

    Attributes:
        agreement: part of the clear photos with the same top-1, 0 to 1.
        similarity: mean cosine of the features, −1 to 1.
    """

    agreement: float
    similarity: float


@dataclasses.dataclass(frozen=True)
class Fidelity:
    """A variant against the float network.

    Attributes:
        photos: how many were compared.
        clear_photos: those whose first class leads by 0.1 or more in the float network.
        agreement: part of all photos with the same top-1, 0 to 1.
        clear_agreement: the same of the clear photos; 1 if there is none.
        probability_difference: mean over the photos of the largest difference of any probability.
        similarity: mean cosine of the features with the float network's.
    """

    photos: int
    clear_photos: int
    agreement: float
    clear_agreement: float
    probability_difference: float
    similarity: float

    def __str__(self) -> str:
        return (
            f"the same top-1 on {self.agreement:.1%} of {self.photos} photos and on {self.clear_agreement:.1%} of "
            f"the {self.clear_photos} clear ones, features alike to {self.similarity:.4f}"
        )


def hold(name: str, got: Answers, expected: Answers, bounds: Bounds) -> Fidelity:
    """Compare a variant with the float network, and refuse it if it is too far away.

    Args:
        name: of the variant, for the sentence.
        got: its answers to photos, or crops of photos, from which it has not learned.
        expected: the float network's.
        bounds: what it must reach.

    Raises:
        BuildError: it does not; the message holds the figures.
    """
    found = compare(got, expected)
    # Written so that NaN fails.
    if not (found.clear_agreement >= bounds.agreement and found.similarity >= bounds.similarity):
        raise BuildError(
            f"the variant {name} is too far from the float network ({found}; at least {bounds.agreement:.0%} of the "
            f"clear ones and {bounds.similarity:g} are wanted); it was not written. For int8, photos like those "
            "that will be served help: --calibration-images"
        )
    return found


def compare(got: Answers, expected: Answers) -> Fidelity:
    """Compare probabilities, shape (N, classes), and features, shape (N, 2048), with the float network's."""
    (probabilities, features), (true_probabilities, true_features) = got, expected
    # With an impossible class in front, so that a single one has a lead, too.
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


def answers(network: Network, pixels: Pixels) -> Answers:
    """Run photos through a network: uint8, shape (N, 224, 224, 3)."""
    batches = [network(pixels[start : start + _BATCH]) for start in range(0, len(pixels), _BATCH)]
    probabilities, features = (np.concatenate(parts) for parts in zip(*batches, strict=True))
    return probabilities, features
