"""The page of one run."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from resnet_loadtest.report import charts_server, charts_time
from resnet_loadtest.report.numbers import level, milliseconds
from resnet_loadtest.report.page import Page, Table
from resnet_loadtest.workloads import addresses

if TYPE_CHECKING:
    from resnet_loadtest.analysis import Run
    from resnet_loadtest.metrics import Figures


def page(run: Run) -> Page:
    """Lay out a run."""
    options = run.options
    kind = f"open loop, {options.arrivals} arrivals" if options.is_open_loop else "closed loop"
    findings = [
        (
            "good" if check.is_met else "bad",
            f"{check.part}: {check.objective.text} (measured {check.objective.show(check.measured)})",
        )
        for check in run.checks
    ]
    charts = [
        charts_time.latency_over_time(run),
        charts_time.histogram(run),
        charts_time.throughput_and_errors(run),
        charts_server.in_flight(run),
        charts_server.queue_and_compute(run),
        charts_server.batch_sizes(run),
        charts_server.machines(run),
    ]
    if len({part.level for part in run.parts}) > 1:
        charts.insert(0, charts_time.rate_latency(run))
    return Page(
        title=f"{options.model}: {options.profile} load, {options.mix}",
        subtitle=f"{kind} · {addresses(options)} · {run.server.name} · {run.started}",
        verdict=run.verdict.name,
        sentence=run.verdict.meaning.capitalize() + ".",
        limit=run.limit,
        findings=[*findings, *(("doubt", doubt) for doubt in run.doubts)],
        tiles=_tiles(run),
        sections=[*charts, _stages(run), _steps(run)],
        details=[(name, str(value)) for name, value in options.to_dict().items() if value is not None],
    )


def _tiles(run: Run) -> list[tuple[str, str, str]]:
    whole = run.whole

    def percentile(percent: float) -> tuple[str, str, str]:
        low, high = whole.interval_s(percent)
        explanation = f"95 % interval: {milliseconds(low)} to {milliseconds(high)}"
        if math.isinf(low):
            explanation = f"more than {100 - percent:g} % of the requests failed"
        elif not math.isfinite(high):
            explanation = "95 % interval: too few requests to tell"
        return f"p{percent:g} response", milliseconds(whole.percentile_s(percent)), explanation

    failures = ", ".join(f"{count} {fate.meaning}" for fate, count in whole.failures.items()) or "none"
    return [
        ("throughput", f"{whole.throughput:.1f}/s", f"photos answered; {whole.offered:.1f} requests/s asked"),
        percentile(50),
        percentile(95),
        percentile(99),
        ("failed", f"{whole.error_rate:.2%}", failures),
        ("requests", f"{whole.requests}", f"in {whole.duration_s:.0f} s"),
    ]


def _stages(run: Run) -> Table:
    head = (
        "stage", "requests/s asked" if run.options.is_open_loop else "users", "requests", "failed", "photos/s",
        "p50", "p95", "p99", "p99.9", "max",
        "service p99", "sent late, p99", "in flight", "Little's law", "CPU",
    )  # fmt: skip
    rows = [_stage(run, part) for part in ([*run.parts, run.whole] if len(run.parts) > 1 else [run.whole])]
    note = (
        "Percentiles come from every single request; «failed» means that so many failed that it has no time. "
        "CPU is the generator's."
    )
    return Table("Stages", note, head, rows)


def _stage(run: Run, part: Figures) -> list[str]:
    seen, expected = run.little(part) or (float("nan"), float("nan"))
    return [
        part.name,
        level(run, part),
        str(part.requests),
        f"{part.error_rate:.2%}",
        f"{part.throughput:.2f}",
        *(milliseconds(part.percentile_s(percent)) for percent in (50, 95, 99, 99.9)),
        milliseconds(part.max_s),
        milliseconds(part.percentile_s(99, of="service")),
        milliseconds(part.late_s(99)),
        f"{seen:.1f}",
        f"{expected:.1f}",
        f"{run.busiest(part):.0%}",
    ]


def _steps(run: Run) -> Table:
    head = (
        "model",
        "answered",
        "failed",
        "why",
        "batches",
        "photos per batch",
        "waiting",
        "computing",
        "in all",
        "busy",
    )
    rows = []
    for step in run.server.steps.values():
        reasons = {reason: n for (model, reason), n in run.server.failures.items() if model == step.model}
        rows.append(
            [
                step.model,
                str(step.succeeded),
                str(step.failed),
                ", ".join(f"{n} {reason.lower()}" for reason, n in reasons.items()) or "-",
                str(step.executions),
                f"{step.mean_batch:.2f}",
                *(milliseconds(value) for value in (step.mean_queue_s, step.mean_compute_s, step.mean_total_s)),
                "-" if step.model in run.server.ensembles else f"{step.busy(run.wall_s):.0%}",
            ]
        )
    note = "The server's own statistics, the difference between before and after; times are means per request."
    return Table("Inside the server", note, head, rows)
