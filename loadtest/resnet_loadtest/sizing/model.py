"""The queue that stands for a server, and for one of several.

A server is taken for one queue with Poisson arrivals and general service (M/G/1), whose time of service varies with a
squared coefficient of variation cs² (gamma-distributed), so that

    T(rate) = base + round · Q(rate / capacity, cs²),

Q being the response time of such a queue, in times of service: its percentile or mean, simulated. Fitted are
``capacity`` (requests per second), ``round`` (the time that one who waits waits for: of a request, or of a batch), cs²
and ``base`` (everything that does not queue), to the measured curves of p50, p90 and the objective all at once,
because only the spread of the times tells cs². The nearer to the capacity, the less a measurement counts: there the
times of neighbours are alike, and a run holds few that are independent.

Of ``n`` servers each gets a share of 1/n. If requests are dealt at random, or many callers take turns each for
itself, the share is Poisson again, and each server behaves like the one that was measured. If one caller deals all
requests in turn, a server gets every n-th: the times between them are Erlang-distributed (E_n/G/1), smoother, and
Q is simulated with those.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from resnet_loadtest.sizing.curve import SHAPE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from resnet_loadtest.sizing.curve import Curve

_CAPACITIES = np.linspace(1.0, 1.3, 31)  # as multiples of the highest throughput seen
_VARIATIONS = (0.0, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0)
_LOADS = np.concatenate([np.linspace(0.02, 0.8, 14), np.linspace(0.83, 0.98, 11)])
_HIGHEST_LOAD = float(_LOADS[-1])
_SIMULATED = 150_000
_MARGIN = 1.1  # so that a stage at the capacity still counts a little


@dataclasses.dataclass(frozen=True)
class Queue:
    """A fitted server.

    Attributes:
        share: of the requests that stay below the time; None for the mean.
        capacity: requests per second.
        variation: squared coefficient of variation of the time of service.
        base_s: time that does not queue.
        round_s: what the queue's times are multiples of.
        error: root of the mean squared relative error at the measured loads.
    """

    share: float | None
    capacity: float
    variation: float
    base_s: float
    round_s: float
    error: float

    def latency_s(self, rate: float, servers: int = 1, *, in_turn: bool = False) -> float:
        """Predicted time in seconds when requests are spread over servers; infinite at 98 % of the capacity and above.

        Args:
            rate: requests per second of all together.
            servers: how many.
            in_turn: one caller deals requests in turn, instead of at random.
        """
        load = rate / servers / self.capacity
        if load > _HIGHEST_LOAD:
            return math.inf
        times = responses(servers if in_turn else 1, self.variation, self.share)
        return self.base_s + self.round_s * float(np.interp(load, _LOADS, times))


@functools.cache
def responses(turns: int, variation: float, share: float | None) -> npt.NDArray[np.float64]:
    """Response times at the utilisations ``_LOADS``, in times of service.

    Args:
        turns: every how-manieth of Poisson arrivals comes here.
        variation: squared coefficient of variation of the time of service.
        share: 0 to 1, of a percentile; None for the mean.
    """
    dice = np.random.default_rng(1)
    service = dice.gamma(1 / variation, variation, _SIMULATED) if variation else np.ones(_SIMULATED)
    between = dice.gamma(turns, 1 / turns, _SIMULATED)

    def at(load: float) -> float:
        # Lindley's recursion: a running sum above its minimum so far is the time in the queue.
        walk = np.cumsum(service[:-1] - between[1:] / load)
        response = service[1:] + walk - np.minimum.accumulate(np.minimum(walk, 0.0))
        return float(response.mean() if share is None else np.quantile(response, share))

    return np.maximum.accumulate([at(load) for load in _LOADS])


def fit(curve: Curve, share: float | None) -> Queue:
    """The queue that comes nearest to the measured curves, by relative error.

    Args:
        curve: at least three points.
        share: 0 to 1, of the objective's percentile; None for the mean.
    """
    rates = np.array([point.rate for point in curve.points])
    shares = (share, *SHAPE)
    measured = np.array([[point.latency_s, *point.shape_s] for point in curve.points]).T
    least = max(curve.throughput, float(rates.max()) / _HIGHEST_LOAD)
    weights = np.tile(_MARGIN - rates / least, len(shares))
    fits = (
        _fitted(rates, measured, shares, weights, capacity=factor * least, variation=variation)
        for factor in _CAPACITIES
        for variation in _VARIATIONS
    )
    return min(fits, key=lambda queue: queue.error)


def _fitted(
    rates: npt.NDArray[np.float64],
    measured: npt.NDArray[np.float64],
    shares: Sequence[float | None],
    weights: npt.NDArray[np.float64],
    *,
    capacity: float,
    variation: float,
) -> Queue:
    """Least squares for base and round, neither below zero."""
    queued = [np.interp(rates / capacity, _LOADS, responses(1, variation, share)) for share in shares]
    columns = np.stack([np.ones(measured.size), np.concatenate(queued)], axis=1) / measured.reshape(-1, 1)
    columns *= weights[:, None]
    found, *_ = np.linalg.lstsq(columns, weights, rcond=None)
    for negative, other in ((0, 1), (1, 0)):
        if found[negative] < 0:
            found = np.zeros(2)
            found[other] = columns[:, other] @ weights / (columns[:, other] ** 2).sum()
            break
    error = float(np.linalg.norm(columns @ found - weights) / np.linalg.norm(weights))
    return Queue(shares[0], float(capacity), variation, float(found[0]), float(found[1]), error)
