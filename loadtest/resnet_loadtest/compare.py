"""Compares two runs: ratios with intervals, and whether the second is worse."""

from __future__ import annotations

import dataclasses
import enum
import math
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from resnet_loadtest.percentiles import percentile, smallest_sample
from resnet_loadtest.samples import Status, response_s

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from resnet_loadtest.analysis import Run

_MUST_AGREE = ("profile", "mix", "batch", "arrivals", "rate", "users", "duration_s")
_RESAMPLES = 1000
# Consecutive requests share a queue; blocks of a run keep that dependence.
_BLOCKS = 30
_FEWEST_BLOCKS = 5
# Bounds of a ratio's 95 % interval: the percentile, and the value if the ratio is undefined.
_BOUNDS = ((2.5, 0.0), (97.5, math.inf))


class Change(enum.Enum):
    """The meaning of a ratio."""

    SAME = "no significant change"
    BETTER = "better"
    WORSE = "worse"
    UNKNOWN = "unknown: too few requests or too many failures"


@dataclasses.dataclass(frozen=True)
class Ratio:
    """One metric of two runs.

    Attributes:
        name: of the metric.
        first: in run A.
        second: in run B.
        ratio: B over A.
        lower: of the ratio's 95 % interval.
        upper: of it.
        change: what that means, given the tolerance.
    """

    name: str
    first: float
    second: float
    ratio: float
    lower: float
    upper: float
    change: Change

    @property
    def is_bounded(self) -> bool:
        """Whether both values are known, and the interval of the ratio says something."""
        return self.lower > 0 and self.upper < math.inf and self.ratio > 0


# Response times in seconds, images answered, seconds → the metric.
_Metric: TypeAlias = "Callable[[npt.NDArray[np.float64], int, float], float]"


def _percentile(percent: float) -> _Metric:
    def metric(response: npt.NDArray[np.float64], answered: int, wall_s: float) -> float:
        del answered, wall_s
        return percentile(response, percent) if len(response) else math.nan

    return metric


def _throughput(response: npt.NDArray[np.float64], answered: int, wall_s: float) -> float:
    del response
    return answered / wall_s


# Name, how it is computed, the percentile it is, whether more is better.
_METRICS: tuple[tuple[str, _Metric, float | None, bool], ...] = (
    ("p50", _percentile(50), 50, False),
    ("p95", _percentile(95), 95, False),
    ("p99", _percentile(99), 99, False),
    ("throughput", _throughput, None, True),
)


class Outcome(enum.Enum):
    """The verdict on two runs: exit code and meaning."""

    PASS = (0, "no regression")
    REGRESSION = (1, "B is significantly worse than A, by more than the tolerance")
    INVALID = (2, "the runs cannot be compared")


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Two runs and their differences.

    Attributes:
        first: run A, the reference.
        second: run B.
        ratios: of their metrics.
    """

    first: Run
    second: Run
    ratios: list[Ratio]

    @property
    def warnings(self) -> list[str]:
        """Why the runs cannot be compared."""
        found = []
        for name, run in (("A", self.first), ("B", self.second)):
            if run.generator_finding:
                found.append(f"{name} is limited by its load generator: {run.generator_finding.text}")
            if run.ended:
                found.append(f"{name} is not complete: {run.ended.reason}")
        first, second = self.first.options.to_dict(), self.second.options.to_dict()
        found += [
            f"A and B have different options: {name} is {first[name]} in A and {second[name]} in B"
            for name in _MUST_AGREE
            if first[name] != second[name]
        ]
        if all(ratio.change is Change.UNKNOWN for ratio in self.ratios):
            found.append("there are too few requests or responses")
        return found

    @property
    def outcome(self) -> Outcome:
        """The verdict."""
        is_worse = any(ratio.change is Change.WORSE for ratio in self.ratios) or self.has_more_errors
        if self.warnings:
            return Outcome.INVALID
        return Outcome.REGRESSION if is_worse else Outcome.PASS

    @property
    def has_more_errors(self) -> bool:
        """Whether B has significantly more failures than A."""
        return error_rates_differ(self.first, self.second)


def compare(first: Run, second: Run, *, tolerance: float = 0.05, seed: int = 1) -> Comparison:
    """Compare all metrics of two runs.

    Args:
        first: run A, the reference.
        second: run B.
        tolerance: accepted change as a share: 0.05 lets p99 grow by 5 %.
        seed: of the bootstrap.
    """
    generator = np.random.default_rng(seed)
    return Comparison(first, second, [_ratio(first, second, metric, tolerance, generator) for metric in _METRICS])


def error_rates_differ(first: Run, second: Run) -> bool:
    """Whether B has significantly more failures than A (two proportions, one-sided 97.5 %)."""
    counts = [(int((run.samples["status"] != Status.OK).sum()), len(run.samples)) for run in (first, second)]
    if not all(total for _, total in counts):
        return False
    pooled = sum(failed for failed, _ in counts) / sum(total for _, total in counts)
    spread = math.sqrt(pooled * (1 - pooled) * sum(1 / total for _, total in counts))
    return counts[1][0] / counts[1][1] - counts[0][0] / counts[0][1] > 1.96 * spread > 0


def _ratio(
    first: Run,
    second: Run,
    metric: tuple[str, _Metric, float | None, bool],
    tolerance: float,
    generator: np.random.Generator,
) -> Ratio:
    name, compute, percent, more_is_better = metric
    runs = (first, second)
    values = [compute(response_s(run.samples), run.whole.answered, run.whole.duration_s) for run in runs]
    resampled = [_bootstrap(run, compute, generator) for run in runs]
    with np.errstate(invalid="ignore", divide="ignore"):
        ratios = resampled[1] / resampled[0]
    ratio = values[1] / values[0] if values[0] else math.nan
    # The ratio is undefined if both percentiles are failures.
    lower, upper = (percentile(np.where(np.isnan(ratios), anything, ratios), bound) for bound, anything in _BOUNDS)
    needed = smallest_sample(percent) if percent else 1
    is_known = all(len(run.samples) >= needed for run in runs) and not math.isnan(ratio)
    change = _change(lower, upper, tolerance, more_is_better) if is_known else Change.UNKNOWN
    found = Ratio(name, values[0], values[1], ratio, lower, upper, change)
    if change is Change.SAME and not found.is_bounded:
        return dataclasses.replace(found, change=Change.UNKNOWN)
    return found


def _change(lower: float, upper: float, tolerance: float, more_is_better: bool) -> Change:
    if more_is_better:
        lower, upper = 1 / upper if upper else math.inf, 1 / lower if lower else math.inf
    if lower > 1 + tolerance:
        return Change.WORSE
    return Change.BETTER if upper < 1 / (1 + tolerance) else Change.SAME


def _bootstrap(run: Run, compute: _Metric, generator: np.random.Generator) -> npt.NDArray[np.float64]:
    """The metric of many runs composed of this one's blocks, drawn with replacement."""
    wall_s = run.whole.duration_s
    count = min(_BLOCKS, max(_FEWEST_BLOCKS, int(wall_s)))
    edges_s = np.linspace(0, wall_s, count + 1)
    response = np.split(response_s(run.samples), np.searchsorted(run.samples["intended_s"], edges_s[1:-1]))
    # By the time of the response: an overloaded server answers the last requests after the run.
    in_time = run.samples[run.samples["done_s"] < wall_s]
    answered = np.histogram(in_time["done_s"], edges_s, weights=in_time["answered"])[0]
    drawn = generator.integers(0, count, (_RESAMPLES, count))
    return np.array(
        [
            compute(np.concatenate([response[i] for i in row]), int(total), wall_s)
            for row, total in zip(drawn, answered[drawn].sum(axis=1), strict=True)
        ]
    )
