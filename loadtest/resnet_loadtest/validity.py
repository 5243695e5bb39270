"""Warnings that make a run INVALID: the generator was the limit, or the run was too short."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resnet_loadtest.generator_metrics import busiest_cpu
from resnet_loadtest.metrics import percentile
from resnet_loadtest.samples import Status, response_s

if TYPE_CHECKING:
    from collections.abc import Sequence

    from resnet_loadtest.generator_metrics import GeneratorMetrics
    from resnet_loadtest.metrics import Metrics
    from resnet_loadtest.slo import Objective

_CPU_LIMIT = 0.9
_SENT_LIMIT = 0.99
# Late is what adds a tenth to the reported response time, and 10 ms. Response times count from the intended sending,
# so lateness can only make them look worse; below this limit it hardly does.
_LATE_S = 0.010
_LATE_SHARE = 0.1


def generator_warnings(parts: Sequence[Metrics], generator: list[GeneratorMetrics], *, is_open_loop: bool) -> list[str]:
    """Signs that the run measured the generator instead of the server; empty if there are none.

    Args:
        parts: the metrics of each stage.
        generator: what the workers measured about themselves.
        is_open_loop: whether requests had a schedule.
    """
    warnings = []
    for part in parts:
        cpu = busiest_cpu(generator, part.start_s, part.end_s)
        if cpu > _CPU_LIMIT:
            warnings.append(f"{part.name}: the generator used {cpu:.0%} of its CPU core; add --processes")
        if is_open_loop:
            warnings += [f"{part.name}: {warning}" for warning in _schedule_warnings(part)]
    return warnings


def _schedule_warnings(part: Metrics) -> list[str]:
    warnings = []
    unsent = part.failures.get(Status.UNSENT, 0)
    sent = 1 - unsent / part.requests if part.requests else 1.0
    if sent < _SENT_LIMIT:
        warnings.append(f"only {sent:.1%} of the scheduled requests were sent; add --processes")
    response = response_s(part.samples[part.samples["status"] == Status.OK])
    for percent in (50, 99):
        late_s = part.late_s(percent)
        limit_s = max(_LATE_S, _LATE_SHARE * percentile(response, percent)) if len(response) else _LATE_S
        if late_s > limit_s:
            warnings.append(
                f"requests were sent late: {100 - percent} % by more than {late_s * 1000:.0f} ms (limit "
                f"{limit_s * 1000:.0f} ms); add --processes, or use a machine with idle cores"
            )
    return warnings


def sample_warnings(parts: Sequence[Metrics], objectives: Sequence[Objective]) -> list[str]:
    """Objectives for which the run had too few requests."""
    return [
        f"{part.name}: {objective.text} needs {objective.smallest_sample} requests, but there were {part.requests}; "
        "run longer"
        for part in parts
        for objective in objectives
        if part.requests < objective.smallest_sample
    ]
