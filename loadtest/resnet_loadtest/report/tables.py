"""The tables of the page and of the terminal: each row is a column's name → text."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, TypeAlias

from resnet_loadtest.metrics import milliseconds

if TYPE_CHECKING:
    from collections.abc import Sequence

    from resnet_loadtest.analysis import Run
    from resnet_loadtest.metrics import Metrics
    from resnet_loadtest.search import Trial
    from resnet_loadtest.server_statistics import Step

Rows: TypeAlias = list[dict[str, str]]


def stage_rows(run: Run) -> Rows:
    """Each stage; the whole run comes last."""
    return [_stage(run, part) for part in ([*run.parts, run.whole] if len(run.parts) > 1 else [run.whole])]


def model_rows(run: Run) -> Rows:
    """Each model's part in the run, from the server's statistics."""
    return [_model(run, step) for step in run.server.steps.values()]


def trial_rows(trials: Sequence[Trial]) -> Rows:
    """Each trial of a search."""
    return [
        {
            "search": str(trial.repeat),
            "requests/s": f"{trial.rate:.2f}",
            "requests": str(trial.run.whole.requests),
            "failed": f"{trial.run.whole.error_rate:.2%}",
            **_percentiles(trial.run.whole, 50, 95, 99),
            "verdict": trial.run.verdict.name,
        }
        for trial in trials
    ]


def _stage(run: Run, part: Metrics) -> dict[str, str]:
    counted, by_littles_law = run.in_flight(part) or (math.nan, math.nan)
    is_open = run.options.is_open_loop
    return {
        "stage": part.name,
        "requests/s" if is_open else "users": f"{part.level:.1f}" if is_open else f"{max(1, round(part.level))}",
        "requests": str(part.requests),
        "failed": f"{part.error_rate:.2%}",
        "images/s": f"{part.throughput:.2f}",
        **_percentiles(part, 50, 95, 99, 99.9),
        "max": milliseconds(part.max_s),
        "service p99": milliseconds(part.percentile_s(99, of="service")),
        "sent late, p99": milliseconds(part.late_s(99)),
        "in flight": f"{counted:.1f}",
        "Little's law": f"{by_littles_law:.1f}",
        "CPU": f"{run.generator_cpu(part):.0%}",
    }


def _model(run: Run, step: Step) -> dict[str, str]:
    reasons = run.server.failures.get(step.model, {})
    return {
        "model": step.model,
        "answered": str(step.succeeded),
        "failed": str(step.failed),
        "reasons": ", ".join(f"{count} {reason.lower()}" for reason, count in reasons.items()) or "-",
        "batches": str(step.executions),
        "images per batch": f"{step.mean_batch:.2f}",
        "queue": milliseconds(step.mean_queue_s),
        "compute": milliseconds(step.mean_compute_s),
        "total": milliseconds(step.mean_total_s),
        "busy": "-" if step.model in run.server.ensembles else f"{step.busy(run.wall_s):.0%}",
    }


def _percentiles(part: Metrics, *percents: float) -> dict[str, str]:
    return {f"p{percent:g}": milliseconds(part.percentile_s(percent)) for percent in percents}
