"""Whether a run can be believed. Every doubt makes it INVALID, which is never a pass."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resnet_loadtest.generator_metrics import busiest
from resnet_loadtest.quantiles import percentile
from resnet_loadtest.samples import Fate, response_s

if TYPE_CHECKING:
    from collections.abc import Sequence

    from resnet_loadtest.generator_metrics import Gauge
    from resnet_loadtest.metrics import Figures
    from resnet_loadtest.slo import Objective

CPU_LIMIT = 0.9
ACHIEVED_LIMIT = 0.99
# Too late is what makes up a tenth of the reported response time, and 10 ms. Response times count from the
# intended sending, so that lateness can only make them look worse; below this it hardly does.
LATE_S = 0.010
LATE_SHARE = 0.1


def generator_doubts(parts: Sequence[Figures], gauges: list[Gauge], *, is_open_loop: bool) -> list[str]:
    """Signs that the generator, not the server, was measured; empty if there are none.

    Args:
        parts: the figures of each stage.
        gauges: what the workers saw of themselves.
        is_open_loop: whether there was a schedule to keep.
    """
    doubts = []
    for part in parts:
        cpu = busiest(gauges, part.start_s, part.end_s)
        if cpu > CPU_LIMIT:
            doubts.append(f"{part.name}: the generator used {cpu:.0%} of its CPU core; add --processes")
        if is_open_loop:
            doubts += [f"{part.name}: {doubt}" for doubt in _schedule_doubts(part)]
    return doubts


def _schedule_doubts(part: Figures) -> list[str]:
    doubts = []
    unsent = part.failures.get(Fate.UNSENT, 0)
    achieved = 1 - unsent / part.requests if part.requests else 1.0
    if achieved < ACHIEVED_LIMIT:
        doubts.append(f"only {achieved:.1%} of the scheduled requests were sent; add --processes")
    answered = part.samples[part.samples["fate"] == Fate.OK]
    response = response_s(answered)
    for percent in (50, 99):
        late_s = part.late_s(percent)
        limit_s = max(LATE_S, LATE_SHARE * percentile(response, percent)) if len(answered) else LATE_S
        if late_s > limit_s:
            doubts.append(
                f"requests were sent late: {100 - percent} % by more than {late_s * 1000:.0f} ms (limit "
                f"{limit_s * 1000:.0f} ms); add --processes, or use a machine with idle cores"
            )
    return doubts


def sample_doubts(parts: Sequence[Figures], objectives: Sequence[Objective]) -> list[str]:
    """Objectives that the run was too short to judge."""
    doubts = []
    for part in parts:
        for objective in objectives:
            needed = objective.smallest_sample
            if part.requests < needed:
                doubts.append(
                    f"{part.name}: {objective.text} takes {needed} requests, but there were {part.requests}; run longer"
                )
    return doubts
