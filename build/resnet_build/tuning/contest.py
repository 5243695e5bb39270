"""The few that are worth it, against each other on the real server: in turns, several rounds, the weak ones leave."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Callable, Sequence

from resnet_build.options import ServingOptions
from resnet_build.tuning.candidates import preference, simplicity

# Who was further behind than this in every round is not measured again.
_BEHIND = 0.93
# One round tells nothing: a shared machine may be half as fast for seconds.
_FEWEST_ROUNDS = 2
# After these, further rounds tell nothing that counts if the preferred is as good as the best.
_ENOUGH_ROUNDS = 3
# Who is nearer to the best than this, and not behind in every round, is as good.
_AS_GOOD = 0.97


@dataclasses.dataclass
class Entry:
    """A setting in a contest.

    Attributes:
        options: the setting.
        predicted: what it was predicted to reach, in the unit of the rounds.
        is_present: whether it is the one in force.
        rounds: what it reached, more is better; fewer than others if it left.
    """

    options: ServingOptions
    predicted: float
    is_present: bool = False
    rounds: list[float] = dataclasses.field(default_factory=list)

    @property
    def median(self) -> float:
        """The middle of its rounds."""
        return statistics.median(self.rounds)


def hold(
    entries: Sequence[Entry],
    measure: Callable[[ServingOptions], float],
    rounds: int,
    report: Callable[[str], None],
    *,
    drop: bool = True,
) -> Entry:
    """Measure in turns, every other round in the opposite order; return the winner.

    Args:
        entries: who takes part; their rounds are filled.
        measure: applies a setting and measures it.
        rounds: at most, for those that stay.
        drop: whether who is behind leaves, and all is over as soon as the preferred is as good as the best.
        report: receives one sentence per round.
    """
    staying = list(entries)
    for number in range(rounds):
        for entry in staying[:: -1 if number % 2 else 1]:
            entry.rounds.append(measure(entry.options))
        report(f"round {number + 1} of {rounds}: {', '.join(f'{entry.rounds[-1]:.1f}' for entry in staying)} photos/s")
        if drop and number + 1 >= _FEWEST_ROUNDS:
            best = best_of(staying)
            staying = [entry for entry in staying if max(_ratios(entry, best)) >= _BEHIND]
        if drop and number + 1 >= _ENOUGH_ROUNDS and winner(staying) is _preferred(staying):
            break
    return winner(staying)


def winner(entries: Sequence[Entry]) -> Entry:
    """Return the preferred of those that are as good as the best; all have the same number of rounds."""
    best = best_of(entries)
    return _preferred([entry for entry in entries if _is_as_good(entry, best)])


def _preferred(entries: Sequence[Entry]) -> Entry:
    return min(entries, key=lambda entry: preference(entry.options, is_present=entry.is_present))


def best_of(entries: Sequence[Entry]) -> Entry:
    """Return who has the highest median, of equals the simplest."""
    return max(entries, key=lambda entry: (entry.median, [-number for number in simplicity(entry.options)]))


def _is_as_good(entry: Entry, best: Entry) -> bool:
    ratios = _ratios(entry, best)
    return statistics.median(ratios) >= _AS_GOOD and max(ratios) >= 1


def _ratios(entry: Entry, best: Entry) -> list[float]:
    """Compare round by round, so that what drifts from round to round does not count."""
    return [mine / other for mine, other in zip(entry.rounds, best.rounds, strict=True)]
