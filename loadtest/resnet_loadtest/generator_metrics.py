"""What a generator process measures about itself once a second: CPU, memory, requests in flight."""

from __future__ import annotations

import dataclasses

_MINUTE = 60


@dataclasses.dataclass(frozen=True)
class GeneratorMetrics:
    """One measurement of one generator process.

    Attributes:
        worker: its number, from 0.
        time_s: seconds since the run began.
        thread_cpu: CPU time of the thread that sends, as a share of the past second, 0 to 1.
        process_cpu: CPU time of the whole process, gRPC's threads included, as a share; may exceed 1.
        rss_bytes: memory in use.
        in_flight: requests in flight, averaged over the past second.
    """

    worker: int
    time_s: float
    thread_cpu: float
    process_cpu: float
    rss_bytes: int
    in_flight: float


def busiest_cpu(metrics: list[GeneratorMetrics], start_s: float, end_s: float) -> float:
    """Mean CPU share of the busiest sending thread in that time, 0 to 1."""
    # A measurement covers the second before it.
    by_worker = _by_worker(metrics, start_s, end_s + 1, "thread_cpu")
    return max((sum(shares) / len(shares) for shares in by_worker.values()), default=0.0)


def mean_in_flight(metrics: list[GeneratorMetrics], start_s: float, end_s: float) -> float | None:
    """Requests in flight in all workers together, averaged over that time; None without a measurement."""
    by_worker = _by_worker(metrics, start_s, end_s, "in_flight")
    return sum(sum(values) / len(values) for values in by_worker.values()) if by_worker else None


def memory_growth(metrics: list[GeneratorMetrics], warm_up_share: float = 0.2) -> float | None:
    """The largest growth of a worker's memory after warming up, as a share; None for runs under a minute."""
    by_worker = _by_worker(metrics, float("-inf"), float("inf"), "rss_bytes")
    long_enough = [memory for memory in by_worker.values() if len(memory) >= _MINUTE]
    growths = [memory[-1] / memory[int(len(memory) * warm_up_share)] - 1 for memory in long_enough]
    return max(growths, default=None)


def _by_worker(metrics: list[GeneratorMetrics], after_s: float, until_s: float, name: str) -> dict[int, list[float]]:
    by_worker: dict[int, list[float]] = {}
    for each in metrics:
        if after_s < each.time_s <= until_s:
            by_worker.setdefault(each.worker, []).append(getattr(each, name))
    return by_worker
