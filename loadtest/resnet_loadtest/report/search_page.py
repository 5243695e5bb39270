"""Page and JSON of a search for the highest rate."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from resnet_loadtest.report.document import SEARCH_SCHEMA
from resnet_loadtest.report.numbers import milliseconds
from resnet_loadtest.report.page import Chart, Page, Table
from resnet_loadtest.verdict import Verdict
from resnet_loadtest.workloads import addresses

if TYPE_CHECKING:
    from collections.abc import Sequence

    from resnet_loadtest.findings import Result, Trial

Found = tuple[float, float, float]

_SYMBOLS = {Verdict.PASS: "circle", Verdict.MISSED: "x", Verdict.INVALID: "triangle-up-open"}


def page(result: Result) -> Page:
    """Lay out a search."""
    options, trials, found = result.options, result.trials, result.found
    tiles: list[tuple[str, str, str]] = [("trials", str(len(trials)), "each a run of its own")]
    if found is not None:
        rate, lower, upper = found
        tiles.insert(0, ("highest rate", f"{rate:.2f}/s", f"95 % interval: {lower:.2f} to {upper:.2f}"))
    limits = [trial.run.limit for trial in trials if trial.run.verdict is Verdict.MISSED]
    first = trials[0].run
    return Page(
        title=f"{options.model}: highest rate, {options.mix}",
        subtitle=f"open loop, poisson arrivals · {addresses(options)} · {first.server.name} · {first.started}",
        verdict="PASS" if result.is_proven else "INVALID",
        sentence=result.sentence,
        limit=limits[-1] if limits else "",
        findings=[],
        tiles=tiles,
        sections=[_curve(trials, found), _course(trials), _table(trials)],
        details=[(name, str(value)) for name, value in options.to_dict().items() if value is not None],
    )


def document(result: Result) -> dict[str, Any]:
    """The search, ready for JSON; times in seconds, infinite ones as null."""
    keys = ("rate_per_s", "lower_per_s", "upper_per_s")
    found = result.found
    return {
        "schema": SEARCH_SCHEMA,
        "objective": result.options.slo,
        "found": None if found is None else dict(zip(keys, (_finite(value) for value in found), strict=True)),
        "doubt": result.doubt,
        "trials": [_trial(trial) for trial in result.trials],
        "options": result.options.to_dict() | {"rate": None},
    }


def _trial(trial: Trial) -> dict[str, Any]:
    whole = trial.run.whole
    return {
        "repeat": trial.repeat,
        "rate_per_s": trial.rate,
        "duration_s": whole.duration_s,
        "requests": whole.requests,
        "verdict": trial.run.verdict.name,
        "doubts": trial.run.doubts,
        "measured": [_finite(check.measured) for check in trial.run.checks],
        **{f"p{percent}_s": _finite(whole.percentile_s(percent)) for percent in (50, 95, 99)},
    }


def _curve(trials: Sequence[Trial], found: Found | None) -> Chart:
    ordered = sorted(trials, key=lambda trial: trial.rate)
    traces: list[dict[str, Any]] = []
    for percent in (50, 95, 99):
        points = [(trial, trial.run.whole.percentile_s(percent) * 1000) for trial in ordered]
        known = [(trial, value) for trial, value in points if np.isfinite(value)]
        traces.append(
            {
                "type": "scatter", "mode": "lines+markers", "name": f"p{percent}",
                "x": [round(trial.rate, 3) for trial, _ in known], "y": [round(value, 2) for _, value in known],
                "line": {"color": f"@p{percent}", "width": 2},
                "marker": {"size": 9, "symbol": [_SYMBOLS[trial.run.verdict] for trial, _ in known]},
            }
        )  # fmt: skip
    line = {"color": "@goal", "width": 1.5, "dash": "dash"}
    shapes = (
        [{"type": "line", "x0": found[0], "x1": found[0], "y0": 0, "y1": 1, "yref": "paper", "line": line}]
        if found
        else []
    )
    layout = {
        "xaxis": {"title": "requests per second"},
        "yaxis": {"title": "response time, ms", "type": "log"},
        "shapes": shapes,
    }
    note = "Each trial: ● met the objective, × missed it, △ proves nothing. The dashed line is the answer."
    return Chart("Rate-latency curve", note, traces, layout)


def _course(trials: Sequence[Trial]) -> Chart:
    trace = {
        "type": "scatter", "mode": "lines+markers", "name": "rate tried",
        "x": list(range(1, len(trials) + 1)), "y": [round(trial.rate, 3) for trial in trials],
        "line": {"color": "@p95", "width": 2},
        "marker": {"size": 10, "symbol": [_SYMBOLS[trial.run.verdict] for trial in trials]},
    }  # fmt: skip
    layout = {"xaxis": {"title": "trial"}, "yaxis": {"title": "requests per second", "rangemode": "tozero"}}
    return Chart("The search", "How the rate was closed in on; each repeat begins at the last answer.", [trace], layout)


def _table(trials: Sequence[Trial]) -> Table:
    head = ("search", "requests/s", "requests", "failed", "p50", "p95", "p99", "verdict")
    rows = [
        [
            str(trial.repeat),
            f"{trial.rate:.2f}",
            str(trial.run.whole.requests),
            f"{trial.run.whole.error_rate:.2%}",
            *(milliseconds(trial.run.whole.percentile_s(percent)) for percent in (50, 95, 99)),
            trial.run.verdict.name,
        ]
        for trial in trials
    ]
    return Table("Trials", "In the order in which they ran.", head, rows)


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None
