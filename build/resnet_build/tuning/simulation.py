"""Predicts what a setting reaches: photos, cores and the dynamic batcher, event by event.

Decoding and network share the cores: what runs together than the machine has cores for slows down alike. Triton's
batcher is simulated by its rules: an idle instance takes all that waits, up to the preferred batch, as soon as that
is full or its first photo has waited for the queue delay.
"""

from __future__ import annotations

import collections
import dataclasses
import heapq
import itertools
import math
import random
from collections.abc import Callable, Sequence
from functools import partial

from resnet_build.options import ServingOptions
from resnet_build.tuning.costs import Costs, Layout

_PHOTOS = 400
# A second of a large machine; what is slow by then is seen to grow.
_MOST_PHOTOS = 4000
# The first of them meet a machine that is still empty.
_WARM_UP = 100
# Times scatter by this share, so that nothing locks into step that would not in reality.
_JITTER = 0.1


@dataclasses.dataclass(frozen=True)
class Prediction:
    """What a setting is predicted to reach.

    Attributes:
        throughput: photos per second.
        latencies_s: of each photo, in the order of arrival, in seconds.
        span_s: seconds in which they came.
        mean_batch: photos per execution of the network.
    """

    throughput: float
    latencies_s: Sequence[float]
    span_s: float
    mean_batch: float


def with_callers(costs: Costs, options: ServingOptions, callers: int) -> Prediction:
    """Predict a closed loop: each caller sends its next photo when the last is answered."""
    run = _Run(costs, options)
    for _ in range(callers):
        run.arrive_at(0.0)
    return run.until(_PHOTOS, again=True)


def at_rate(costs: Costs, options: ServingOptions, rate: float, span_s: float = 0.0) -> Prediction:
    """Predict Poisson arrivals of ``rate`` photos per second, for ``span_s`` seconds if that is not too many photos."""
    photos = min(max(_PHOTOS, math.ceil(rate * span_s)), _MOST_PHOTOS)
    run = _Run(costs, options)
    arrivals = random.Random(1)  # noqa: S311  # the same for all settings, so that they compare
    now_s = 0.0
    for _ in range(photos):
        now_s += arrivals.expovariate(rate)
        run.arrive_at(now_s)
    return run.until(photos, again=False)


@dataclasses.dataclass
class _Task:
    left_s: float
    cores: float
    done: Callable[[], None]


class _Run:
    def __init__(self, costs: Costs, options: ServingOptions) -> None:
        layout = Layout.of(options)
        self._costs, self._options = costs, options
        self._batch_time = costs.batch_time(layout)
        self._cores_of_batch = costs.cores_of(layout)
        self._free_instances = costs.executions(layout)
        self._free_decoders = options.preprocess_instances
        self._delay_s = options.max_queue_delay_us / 1e6
        self._random = random.Random(0)  # noqa: S311  # repeatable
        self._now_s = 0.0
        # Of timers for the same moment the first set is the first called.
        self._order = itertools.count()
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._tasks: list[_Task] = []
        self._to_decode: collections.deque[float] = collections.deque()
        # When it arrived, and when it was decoded.
        self._to_compute: collections.deque[tuple[float, float]] = collections.deque()
        self._done: list[tuple[float, float]] = []
        self._batches: list[int] = []
        self._again = False

    def arrive_at(self, moment_s: float) -> None:
        self._at(moment_s, lambda: self._begin(self._costs.around_s, 1.0, lambda: self._enqueue(moment_s)))

    def until(self, photos: int, *, again: bool) -> Prediction:
        self._again = again
        while len(self._done) < photos:
            self._step()
        counted = self._done[min(_WARM_UP, photos // 4) :]
        first_s, last_s = counted[0][1], counted[-1][1]
        throughput = (len(counted) - 1) / (last_s - first_s) if last_s > first_s else math.inf
        counted.sort()
        latencies = [end_s - start_s for start_s, end_s in counted]
        span_s = counted[-1][0] - counted[0][0]
        return Prediction(throughput, latencies, span_s, sum(self._batches) / len(self._batches))

    def _step(self) -> None:
        wanted = sum(task.cores for task in self._tasks)
        pace = min(1.0, self._costs.cores / wanted) if wanted else 1.0
        paces = [pace if task.cores else 1.0 for task in self._tasks]
        step_s = min((task.left_s / pace for task, pace in zip(self._tasks, paces, strict=True)), default=math.inf)
        until_s = self._now_s + step_s
        if self._timers and self._timers[0][0] <= until_s:
            # The moment itself: a sum that is rounded down would never reach it.
            until_s = max(self._now_s, self._timers[0][0])
            step_s = until_s - self._now_s
        self._now_s = until_s
        for task, own in zip(self._tasks, paces, strict=True):
            task.left_s -= step_s * own
        finished = [task for task in self._tasks if task.left_s <= 1e-12]  # noqa: PLR2004  # rounding
        if finished:
            self._tasks = [task for task in self._tasks if task.left_s > 1e-12]  # noqa: PLR2004
            for task in finished:
                task.done()
        while self._timers and self._timers[0][0] <= self._now_s:
            heapq.heappop(self._timers)[2]()

    def _at(self, moment_s: float, call: Callable[[], None]) -> None:
        heapq.heappush(self._timers, (moment_s, next(self._order), call))

    def _begin(self, seconds: float, cores: float, done: Callable[[], None]) -> None:
        scattered = seconds * self._random.uniform(1 - _JITTER, 1 + _JITTER)
        self._tasks.append(_Task(scattered, cores, done))

    def _enqueue(self, arrived_s: float) -> None:
        self._to_decode.append(arrived_s)
        self._decode()

    def _decode(self) -> None:
        while self._free_decoders and self._to_decode:
            arrived_s = self._to_decode.popleft()
            self._free_decoders -= 1
            self._begin(self._costs.decode_s, 1.0, partial(self._decoded, arrived_s))

    def _decoded(self, arrived_s: float) -> None:
        self._free_decoders += 1
        self._to_compute.append((arrived_s, self._now_s))
        self._decode()
        self._compute()

    def _compute(self) -> None:
        largest = self._options.preferred_batch_size or self._options.max_batch_size
        while self._free_instances and self._to_compute:
            due_s = self._to_compute[0][1] + self._delay_s
            if len(self._to_compute) < largest and due_s > self._now_s:
                self._at(due_s, self._compute)
                return
            batch = [self._to_compute.popleft()[0] for _ in range(min(largest, len(self._to_compute)))]
            self._free_instances -= 1
            self._batches.append(len(batch))
            seconds = self._batch_time.of(len(batch))
            self._begin(seconds, self._cores_of_batch, partial(self._computed, batch))

    def _computed(self, batch: list[float]) -> None:
        self._free_instances += 1
        for arrived_s in batch:
            self._done.append((arrived_s, self._now_s))
            if self._again:
                self.arrive_at(self._now_s)
        self._compute()
