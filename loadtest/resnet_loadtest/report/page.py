"""The HTML page of a run, a search or a comparison."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from resnet_client.report.page import Page, Section

from resnet_loadtest.analysis import Run, Verdict
from resnet_loadtest.compare import Change, Comparison
from resnet_loadtest.metrics import Metrics, milliseconds
from resnet_loadtest.options import Options
from resnet_loadtest.report import charts, summary
from resnet_loadtest.search import Result
from resnet_loadtest.workloads import addresses


def write_run(run: Run, path: Path) -> None:
    """Write the page of a run."""
    options = run.options
    signs = {Verdict.PASS: "good", Verdict.FAIL: "bad"}
    checks = [(signs.get(check.verdict, "warning"), check.message) for check in run.checks]
    Page(
        title=f"{options.model}: {options.profile} load, {options.mix}",
        subtitle=f"{options.loop} · {addresses(options)} · {run.server.name} · {run.started}",
        verdict=run.verdict.label,
        message=f"{run.meaning[:1].upper()}{run.meaning[1:]}.",
        findings=checks + [("warning", f"not valid: {finding}") for finding in run.unchecked],
        callout=f"Bottleneck: {run.bottleneck}",
        tiles=_tiles(run.whole),
        charts=charts.of_run(run),
        sections=[
            Section(
                "Stages",
                "From every request. “undefined”: so many requests failed that this percentile does not exist.",
                summary.stage_rows(run),
            ),
            Section(
                "Inside the server",
                "From Triton's statistics before and after the run. Times are means per request.",
                summary.model_rows(run),
            ),
        ],
        options=_given(options),
    ).write(path)


def write_search(result: Result, path: Path) -> None:
    """Write the page of a search for the highest rate."""
    options, trials = result.options, result.trials
    tiles = [("trials", str(len(trials)), "one run each")]
    if result.found:
        rate = result.found[0]
        tiles.insert(0, ("highest rate", f"{rate:.2f}/s", result.interval))
    if result.servers:
        tiles.append(("servers", str(result.servers), f"for {result.target_rate:g} requests per second"))
    limits = [trial.run.bottleneck for trial in trials if trial.run.verdict is Verdict.FAIL]
    first = trials[0].run
    Page(
        title=f"{options.model}: highest rate, {options.mix}",
        subtitle=f"{options.loop} · {addresses(options)} · {first.server.name} · {first.started}",
        verdict="FOUND" if result.is_proven else Verdict.INVALID.name,
        message=result.message,
        callout=f"Bottleneck: {limits[-1]}" if limits else "",
        tiles=tiles,
        charts=charts.of_search(result),
        sections=[Section("Trials", "In the order of the search.", summary.trial_rows(trials))],
        options=_given(options),
    ).write(path)


def write_comparison(compared: Comparison, path: Path) -> None:
    """Write the page of two runs."""
    runs = {"A": compared.first, "B": compared.second}
    options = compared.second.options
    words = {Change.BETTER: "good", Change.WORSE: "bad"}
    findings = [
        (words[ratio.change], f"{ratio.name}: {ratio.change.value}")
        for ratio in compared.ratios
        if ratio.change in words
    ]
    rows = summary.comparison_rows(compared)
    Page(
        title=f"{options.model}: two runs, {options.mix}",
        subtitle=" · ".join(
            f"{name}: {run.options.name or ''} {run.server.name} {run.started}" for name, run in runs.items()
        ),
        verdict=compared.outcome.name,
        message=f"{compared.outcome.value[1][:1].upper()}{compared.outcome.value[1][1:]}.",
        findings=findings + [("warning", f"not valid: {warning}") for warning in compared.warnings],
        tiles=[(f"{row['metric']}, B/A", row["B/A"], f"{row['A']} → {row['B']}: {row['verdict']}") for row in rows],
        charts=charts.of_comparison(runs),
        sections=[Section("Metrics", "B/A with its 95 % interval, from a bootstrap over blocks of time.", rows)],
        options=_given(options),
    ).write(path)


def _given(options: Options) -> dict[str, Any]:
    return {name: value for name, value in options.to_dict().items() if value is not None}


def _tiles(whole: Metrics) -> list[tuple[str, str, str]]:
    failures = ", ".join(f"{count} {status.description}" for status, count in whole.failures.items()) or "none"
    return [
        ("throughput", f"{whole.throughput:.1f}/s", f"images answered; {whole.offered:.1f} requests/s offered"),
        *(_percentile_tile(whole, percent) for percent in (50, 95, 99)),
        ("failed", f"{whole.error_rate:.2%}", failures),
        ("requests", f"{whole.requests}", f"in {whole.duration_s:.0f} s"),
    ]


def _percentile_tile(whole: Metrics, percent: float) -> tuple[str, str, str]:
    low, high = whole.interval_s(percent)
    explanation = f"95 % interval: {milliseconds(low)} to {milliseconds(high)}"
    if math.isinf(low):
        explanation = f"more than {100 - percent:g} % of the requests failed"
    elif math.isinf(high):
        reason = "failed requests" if whole.failures else "too few requests"
        explanation = f"95 % interval: from {milliseconds(low)}, no upper end ({reason})"
    return f"p{percent:g} response", milliseconds(whole.percentile_s(percent)), explanation
