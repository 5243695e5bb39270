"""Two versions, the same pictures: whether they answer alike, and whether the new one is as fast."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from resnet_client import (
    Classification,
    Client,
    DeadlineExceededError,
    RequestError,
    ResnetClientError,
    ResponseError,
)

from resnet_serve.rollout.errors import RefusedError, RolloutError
from resnet_serve.rollout.golden import Picture

# Several at once, so that the network is also seen with batches of several.
_IN_FLIGHT = 4
_SUM_TOLERANCE = 0.01
_PERCENT = 100.0

Answers = npt.NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class Target:
    """Who is asked: a loaded model and its version."""

    model: str
    version: int


@dataclasses.dataclass(frozen=True)
class Bounds:
    """What a new version has to keep.

    Attributes:
        min_agreement: least share of pictures with the same most probable class, 0 to 1.
        max_p99_ratio: how many times the old version's 99th percentile the new one's may be.
    """

    min_agreement: float
    max_p99_ratio: float


@dataclasses.dataclass(frozen=True)
class Likeness:
    """How alike two versions answer.

    Attributes:
        agreement: share of pictures with the same most probable class, 0 to 1.
        largest_difference: of any class's probability on any picture, 0 to 1.
        pictures: how many were compared.
    """

    agreement: float
    largest_difference: float
    pictures: int

    @classmethod
    def of(cls, ours: Answers, theirs: Answers) -> Likeness:
        """Compare answers of shape (pictures, classes)."""
        agreement = float(np.mean(ours.argmax(axis=1) == theirs.argmax(axis=1)))
        return cls(agreement, float(np.abs(ours - theirs).max()), len(ours))

    def check(self, bounds: Bounds) -> None:
        """Raise a ``RefusedError`` if they differ by more than is allowed."""
        if self.agreement < bounds.min_agreement:
            raise RefusedError(
                f"it agrees on {_PERCENT * self.agreement:.1f} % of the pictures, "
                f"and {_PERCENT * bounds.min_agreement:g} % are asked for"
            )

    def table(self, bounds: Bounds) -> str:
        """Show the figures below those of the new version."""
        asked = f"of {self.pictures} pictures, at least {_PERCENT * bounds.min_agreement:g} %"
        return "\n".join(
            (
                row("same top-1", "", f"{_PERCENT * self.agreement:.1f} %", asked),
                row("largest difference", "", f"{self.largest_difference:.6f}", "of a probability"),
            )
        )


@dataclasses.dataclass(frozen=True)
class Times:
    """How long single calls took: medians and 99th percentiles, in seconds."""

    old_p50_s: float
    new_p50_s: float
    old_p99_s: float
    new_p99_s: float

    @property
    def p99_ratio(self) -> float:
        """How many times the old version's 99th percentile the new one's is."""
        return self.new_p99_s / self.old_p99_s

    def check(self, bounds: Bounds) -> None:
        """Raise a ``RefusedError`` if the new version is slower than is allowed."""
        if self.p99_ratio > bounds.max_p99_ratio:
            raise RefusedError(
                f"its slowest calls (p99) take {self.p99_ratio:.2f} times as long, "
                f"and {bounds.max_p99_ratio:g} times are allowed"
            )

    def table(self, bounds: Bounds) -> str:
        """Show the figures below those of the two versions."""
        allowed = f"{self.p99_ratio:.2f} times, at most {bounds.max_p99_ratio:g}"
        return "\n".join(
            (
                row("p50", _ms(self.old_p50_s), _ms(self.new_p50_s)),
                row("p99", _ms(self.old_p99_s), _ms(self.new_p99_s), allowed),
            )
        )


def row(name: str, old: str, new: str, note: str = "") -> str:
    """One row of the table that a roll-out shows."""
    return f"  {name:<20}{old:>12}{new:>12}   {note}".rstrip()


def answers(client: Client, target: Target, pictures: Sequence[Picture], classes: int) -> Answers:
    """Ask a network for the probabilities of all classes.

    Returns:
        float64 array, shape (pictures, classes).

    Raises:
        RefusedError: it does not answer as a classifier of so many classes does.
        RolloutError: the server does not answer.
    """
    outcomes = client.classify_many(
        pictures,
        max_in_flight=_IN_FLIGHT,
        top_k=classes + 1,  # one more than there should be shows if there are more
        model=target.model,
        model_version=str(target.version),
        preprocessing="client",
    )
    found = np.zeros((len(pictures), classes))
    for row, outcome in zip(found, outcomes, strict=True):
        if outcome.result is None:
            raise _failed(outcome.error)
        row[:] = _probabilities(outcome.result, classes)
    return found


def classes(client: Client, model: str, pictures: Sequence[Picture], *, sends_pixels: bool) -> list[int]:
    """Ask as callers do, without naming a version; return each picture's most probable class.

    Args:
        client: asks.
        model: a network, or an ensemble that ends in one.
        pictures: what is asked.
        sends_pixels: crop here, as networks need it.

    Raises:
        RefusedError: it does not answer.
        RolloutError: the server does not answer.
    """
    found = []
    for outcome in client.classify_many(
        pictures,
        max_in_flight=_IN_FLIGHT,
        top_k=1,
        model=model,
        preprocessing="client" if sends_pixels else "server",
    ):
        if outcome.result is None:
            raise _failed(outcome.error)
        found.append(outcome.result.top.index)
    return found


def times(client: Client, old: Target, new: Target, pictures: Sequence[Picture]) -> Times:
    """Time single calls of two versions in turns, so that whatever else the machine does hits both.

    Raises:
        RefusedError: one fails.
        RolloutError: the server does not answer.
    """
    durations_s: dict[Target, list[float]] = {old: [], new: []}
    for number, picture in enumerate(pictures):
        # Whoever comes second finds warm caches, so each does half of the time.
        for target in (old, new) if number % 2 else (new, old):
            durations_s[target].append(_timed(client, target, picture))
    (old_p50_s, old_p99_s), (new_p50_s, new_p99_s) = (
        map(float, np.percentile(durations_s[target], [50, 99])) for target in (old, new)
    )
    return Times(old_p50_s, new_p50_s, old_p99_s, new_p99_s)


def _timed(client: Client, target: Target, picture: Picture) -> float:
    started_s = time.perf_counter()
    try:
        client.classify(picture, top_k=1, model=target.model, model_version=str(target.version), preprocessing="client")
    except ResnetClientError as exc:
        raise _failed(exc) from exc
    return time.perf_counter() - started_s


def _probabilities(result: Classification, classes: int) -> list[float]:
    by_index = {prediction.index: prediction.probability for prediction in result.predictions}
    if by_index.keys() != set(range(classes)):
        raise RefusedError(f"it answers {len(by_index)} classes instead of {classes}")
    total = sum(by_index.values())
    if not abs(total - 1) < _SUM_TOLERANCE:  # nor does a NaN pass
        raise RefusedError(f"its probabilities add up to {total:.3f} instead of 1")
    return [by_index[index] for index in range(classes)]


def _failed(error: ResnetClientError | None) -> RefusedError | RolloutError:
    """Whether the network failed, or the way to it."""
    if isinstance(error, (RequestError, ResponseError, DeadlineExceededError)):
        return RefusedError(f"it does not answer: {error}")
    return RolloutError(f"the comparison broke off: {error}")


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:.1f} ms"
