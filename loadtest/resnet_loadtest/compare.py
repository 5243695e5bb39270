"""Compares two runs: ratios with intervals, and whether the second is worse."""

from __future__ import annotations

import dataclasses
import enum
import math
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from resnet_loadtest.percentiles import percentile, smallest_sample
from resnet_loadtest.samples import Status, durations_s, only_answered

if TYPE_CHECKING:
    from resnet_loadtest.analysis import Run  # needs pydantic, which the base installation does not have

_MUST_AGREE = ("profile", "mix", "arrivals", "rate", "users", "duration_s")
# Name → the percentile it is.
_METRICS = {"p50": 50.0, "p95": 95.0, "p99": 99.0, "throughput": None}
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


class Outcome(enum.Enum):
    """The verdict on two runs.

    Attributes:
        exit_code: of the command.
        meaning: for reports.
    """

    PASS = (0, "no regression")
    REGRESSION = (1, "B is significantly worse than A, by more than the tolerance")
    INVALID = (2, "the runs cannot be compared")

    def __init__(self, exit_code: int, meaning: str) -> None:
        self.exit_code = exit_code
        self.meaning = meaning


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
            limits = run.generator_findings(run.whole)[:1]
            found += [f"{name} is limited by its load generator: {reason}" for reason in limits]
            if run.ended:
                found.append(f"{name} is not complete: {run.ended.reason}")
        first, second = vars(self.first.options), vars(self.second.options)
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
        if self.warnings:
            return Outcome.INVALID
        is_worse = self.has_more_errors or any(ratio.change is Change.WORSE for ratio in self.ratios)
        return Outcome.REGRESSION if is_worse else Outcome.PASS

    @property
    def has_more_errors(self) -> bool:
        """Whether B has significantly more failures than A (two proportions, one-sided 97.5 %)."""
        runs = (self.first.samples, self.second.samples)
        failed, totals = [int((run["status"] != Status.OK).sum()) for run in runs], [len(run) for run in runs]
        if not all(totals):
            return False
        pooled = sum(failed) / sum(totals)
        spread = math.sqrt(pooled * (1 - pooled) * sum(1 / total for total in totals))
        return failed[1] / totals[1] - failed[0] / totals[0] > 1.96 * spread > 0


def compare(first: Run, second: Run, *, tolerance: float = 0.05) -> Comparison:
    """Compare all metrics of two runs.

    Args:
        first: run A, the reference.
        second: run B.
        tolerance: accepted change as a share: 0.05 lets p99 grow by 5 %.
    """
    generator = np.random.default_rng(1)  # the same runs have the same result
    resamples = [_resamples(run, generator) for run in (first, second)]
    with np.errstate(invalid="ignore", divide="ignore"):
        ratios = resamples[1] / resamples[0]
    return Comparison(
        first, second, [_ratio((first, second), *each, tolerance) for each in zip(_METRICS, ratios.T, strict=True)]
    )


def _ratio(runs: tuple[Run, Run], name: str, ratios: npt.NDArray[np.float64], tolerance: float) -> Ratio:
    """Compare one metric, given its ratio in each resample."""
    percent = _METRICS[name]
    first, second = (run.whole.percentile_s(percent) if percent else run.whole.throughput for run in runs)
    # The ratio is undefined if both percentiles are failures.
    lower, upper = (percentile(np.where(np.isnan(ratios), anything, ratios), bound) for bound, anything in _BOUNDS)
    found = Ratio(name, first, second, second / first if first else math.nan, lower, upper, Change.UNKNOWN)
    needed = smallest_sample(percent) if percent else 1
    if min(run.whole.requests for run in runs) < needed or math.isnan(found.ratio):
        return found
    if name == "throughput":  # more is better
        lower, upper = 1 / upper if upper else math.inf, 1 / lower if lower else math.inf
    change = Change.SAME if found.is_bounded else Change.UNKNOWN
    if lower > 1 + tolerance:
        change = Change.WORSE
    elif upper < 1 / (1 + tolerance):
        change = Change.BETTER
    return dataclasses.replace(found, change=change)


def _resamples(run: Run, generator: np.random.Generator) -> npt.NDArray[np.float64]:
    """Metrics of many runs composed of this one's blocks, drawn with replacement: shape (resamples, metrics)."""
    wall_s = run.whole.duration_s
    count = min(_BLOCKS, max(_FEWEST_BLOCKS, int(wall_s)))
    edges_s = np.linspace(0, wall_s, count + 1)
    blocks = np.split(durations_s(run.samples), np.searchsorted(run.samples["intended_s"], edges_s[1:-1]))
    # By the time of the response: an overloaded server answers the last requests after the run.
    done_s = only_answered(run.samples)["done_s"]
    counts = np.histogram(done_s[done_s < wall_s], edges_s)[0]
    rows = []
    for drawn in generator.integers(0, count, (_RESAMPLES, count)):
        response = np.concatenate([blocks[number] for number in drawn])
        percents = filter(None, _METRICS.values())
        values = [percentile(response, percent) if len(response) else math.nan for percent in percents]
        rows.append([*values, counts[drawn].sum() / wall_s])
    return np.array(rows)
