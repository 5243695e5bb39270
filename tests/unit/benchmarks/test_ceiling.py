"""How the ceiling counts what it computes."""

from __future__ import annotations

import pytest

from benchmarks import ceiling


@pytest.mark.parametrize("offset_s", [0.0, 0.25, 1.0])
def test_runners_count_the_same_in_step_and_out_of_step(offset_s: float) -> None:
    """Two that need half a second for an execution finish four a second, whatever the time between them."""
    first = [0.5 * number for number in range(5)]
    assert ceiling.rate([first, [moment + offset_s for moment in first]]) == pytest.approx(4.0)
