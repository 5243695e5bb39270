"""How both load generators are evaluated."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.perf_analyzer import measured


def test_measured_uses_the_times_of_the_requests() -> None:
    """Three requests of 8, 10 and 12 ms; Triton needs 9 ms for each."""
    times = np.array([[0.000, 0.008], [0.010, 0.020], [0.021, 0.033]])
    found = measured(times, in_triton_s=0.009)
    assert found == {
        "images_per_s": pytest.approx(2 / 0.025),
        "p50_ms": pytest.approx(10),
        "outside_ms": pytest.approx(1),
    }
