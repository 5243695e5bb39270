"""Which settings of another server are the best."""

from __future__ import annotations

from benchmarks.sweep import best


def test_best_prefers_throughput_then_the_latency_of_one_caller() -> None:
    """Two settings differ by less than 3 % of throughput; the third is quick and slow."""
    measured = {4: (100, 30), 8: (98, 20), 16: (50, 10)}
    tried = [({"images_per_s": rate, "p50_ms": p50}, {"batch": number}) for number, (rate, p50) in measured.items()]
    assert best(tried) == {"batch": 8}
