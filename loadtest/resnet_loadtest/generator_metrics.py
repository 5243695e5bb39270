"""What the generator observes of itself while it runs, once a second."""

from __future__ import annotations

import dataclasses

_MINUTE = 60


@dataclasses.dataclass(frozen=True)
class Gauge:
    """One look of one generator process at itself.

    Attributes:
        worker: its number, from 0.
        time_s: seconds since the run began.
        thread_cpu: CPU time of the thread that sends, as a share of the past second, 0 to 1.
        process_cpu: CPU time of the whole process, gRPC's threads included, as a share; may exceed 1.
        rss_bytes: memory in use.
        in_flight: requests under way, averaged over the past second.
    """

    worker: int
    time_s: float
    thread_cpu: float
    process_cpu: float
    rss_bytes: int
    in_flight: float


def busiest(gauges: list[Gauge], start_s: float, end_s: float) -> float:
    """Mean CPU share of the busiest sending thread in that time, 0 to 1."""
    by_worker: dict[int, list[float]] = {}
    for gauge in gauges:
        if start_s < gauge.time_s <= end_s + 1:
            by_worker.setdefault(gauge.worker, []).append(gauge.thread_cpu)
    return max((sum(shares) / len(shares) for shares in by_worker.values()), default=0.0)


def mean_in_flight(gauges: list[Gauge], start_s: float, end_s: float) -> float | None:
    """Requests under way in all workers together, averaged over that time; None if nobody looked."""
    by_worker: dict[int, list[float]] = {}
    for gauge in gauges:
        if start_s < gauge.time_s <= end_s:
            by_worker.setdefault(gauge.worker, []).append(gauge.in_flight)
    if not by_worker:
        return None
    return sum(sum(values) / len(values) for values in by_worker.values())


def memory_growth(gauges: list[Gauge], warm_up_share: float = 0.2) -> float | None:
    """How much the workers' memory grew after warming up, as a share; None for runs under a minute."""
    growths = []
    for worker in sorted({gauge.worker for gauge in gauges}):
        memory = [gauge.rss_bytes for gauge in gauges if gauge.worker == worker]
        if len(memory) < _MINUTE:
            continue
        growths.append(memory[-1] / memory[int(len(memory) * warm_up_share)] - 1)
    return max(growths, default=None)
