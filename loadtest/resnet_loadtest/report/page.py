"""The HTML page of a run, a search or a comparison."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from resnet_client.report.page import Page, Section

from resnet_loadtest.analysis import Run, Verdict
from resnet_loadtest.compare import Comparison
from resnet_loadtest.metrics import Metrics, milliseconds
from resnet_loadtest.options import Options
from resnet_loadtest.report import charts, summary
from resnet_loadtest.search import Result
from resnet_loadtest.workloads import addresses


def write_run(run: Run, path: Path) -> None:
    """Write the page of a run."""
    signs = {Verdict.PASS: "good", Verdict.FAIL: "bad"}
    checks = [(signs.get(check.verdict, "warning"), check.message) for check in run.checks]
    stages = "From every request. “undefined”: so many requests failed that this percentile does not exist."
    inside = "From Triton's statistics before and after the run. Times are means per request."
    Page(
        title=_title(f"{run.options.profile} load", run.options),
        subtitle=_subtitle(run),
        verdict=run.verdict.label,
        message=_sentence(run.meaning),
        findings=checks + [("warning", f"not valid: {part}: {reason}") for part, reason in run.findings],
        callout=f"Bottleneck: {run.bottleneck}",
        tiles=_tiles(run),
        charts=charts.of_run(run),
        sections=[
            Section("Stages", stages, summary.stage_rows(run)),
            Section("Inside the server", inside, summary.model_rows(run)),
        ],
        options=_given(run.options),
    ).write(path)


def write_search(result: Result, path: Path) -> None:
    """Write the page of a search for the highest rate."""
    tiles = [("trials", str(len(result.trials)), "one run each")]
    if result.found:
        tiles.insert(0, ("highest rate", f"{result.found[0]:.2f}/s", result.interval))
    limits = [trial.run.bottleneck for trial in result.trials if trial.run.verdict is Verdict.FAIL]
    Page(
        title=_title("highest rate", result.options),
        subtitle=_subtitle(result.trials[0].run),
        verdict="FOUND" if result.is_proven else Verdict.INVALID.name,
        message=result.message,
        callout=f"Bottleneck: {limits[-1]}" if limits else "",
        tiles=tiles,
        charts=charts.of_search(result),
        sections=[Section("Trials", "In the order of the search.", summary.trial_rows(result.trials))],
        options=_given(result.options),
    ).write(path)


def write_comparison(compared: Comparison, path: Path) -> None:
    """Write the page of two runs."""
    runs = {"A": compared.first, "B": compared.second}
    rows = summary.comparison_rows(compared)
    Page(
        title=_title("two runs", compared.second.options),
        subtitle=" · ".join(f"{name}: {run.options.name or ''} {_subtitle(run)}" for name, run in runs.items()),
        verdict=compared.outcome.name,
        message=_sentence(compared.outcome.meaning),
        findings=[("warning", f"not valid: {warning}") for warning in compared.warnings],
        tiles=[(f"{row['metric']}, B/A", row["B/A"], f"{row['A']} → {row['B']}: {row['verdict']}") for row in rows],
        charts=charts.of_comparison(runs),
        sections=[Section("Metrics", "B/A with its 95 % interval, from a bootstrap over blocks of time.", rows)],
        options=_given(compared.second.options),
    ).write(path)


def _title(what: str, options: Options) -> str:
    return f"{options.model}: {what}, {options.mix}"


def _subtitle(run: Run) -> str:
    return f"{run.options.loop} · {addresses(run.options)} · {run.server.name} · {run.started}"


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def _given(options: Options) -> dict[str, Any]:
    return {name: value for name, value in options.to_dict().items() if value is not None}


def _tiles(run: Run) -> list[tuple[str, str, str]]:
    part, whole = run.headline, run.whole
    tiles = [
        ("throughput", f"{part.throughput:.1f}/s", f"images answered; {part.offered:.1f} requests/s offered"),
        *(_percentile_tile(part, percent) for percent in (50, 95, 99)),
        ("failed, whole run", f"{whole.error_rate:.2%}", whole.failure_reasons),
        ("requests, whole run", f"{whole.requests}", f"in {whole.duration_s:.0f} s"),
    ]
    if len(run.parts) > 1:
        what = "all stages together" if part is whole else "the highest load that the server kept up with"
        tiles.insert(0, ("stage", part.name, what))
    return tiles


def _percentile_tile(part: Metrics, percent: float) -> tuple[str, str, str]:
    low, high = ("∞" if math.isinf(bound) else milliseconds(bound) for bound in part.interval_s(percent))
    return f"p{percent:g} response", milliseconds(part.percentile_s(percent)), f"95 % interval: {low} to {high}"
