"""The charts of a run, of a search and of a comparison."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from resnet_client.report.charts import Json, bars, chart, line, numbers

from resnet_loadtest.analysis import Run, Verdict
from resnet_loadtest.metrics import Metrics
from resnet_loadtest.percentiles import percentile
from resnet_loadtest.samples import Samples, Status, durations_s, only_answered
from resnet_loadtest.search import Result
from resnet_loadtest.server_statistics import Step
from resnet_loadtest.slo import parse

_Array: TypeAlias = npt.NDArray[np.float64]

_PERCENTS = (50, 95, 99)
_MAX_DOTS, _MAX_CROSSES = 4000, 1000
_MAX_WINDOWS, _PER_WINDOW = 60, 20
_BINS = 60
_WIDE_RANGE = 10
_SECONDS = "seconds since the run began"
_FROM_ZERO: Json = {"rangemode": "tozero"}
_REASON_COLOURS = ("--failed", "--queue", "--memory", "--decode", "--other")
_SIZE_COLOURS = ("--size1", "--size2", "--size3", "--size4", "--size5", "--size6")
_SYMBOLS = {Verdict.PASS: "circle", Verdict.FAIL: "x"}
# Metric → label, factor, colour, axis.
_MACHINE = {
    "nv_cpu_utilization": ("server CPU", 100, "--compute", "y"),
    "nv_cpu_memory_used_bytes": ("server memory", 1e-9, "--memory", "y2"),
    "nv_gpu_utilization": ("GPU", 100, "--decode", "y"),
    "nv_gpu_memory_used_bytes": ("GPU memory", 1e-9, "--queue", "y2"),
}


def of_run(run: Run) -> list[Json]:
    """All charts of a run."""
    charts = [_latency_over_time(run), _distribution(run), _throughput(run)]
    charts += [_queue_and_compute(run), _batch_sizes(run), _machines(run)]
    levels = [part.level for part in run.parts]
    if len(set(levels)) > 1:
        note = "The curve is flat below capacity and rises steeply at capacity."
        unit = "requests per second offered" if run.options.is_open_loop else "users"
        charts.insert(0, _rate_latency(note, unit, levels, run.parts, "circle", xaxis=_FROM_ZERO))
    return charts


def of_comparison(runs: Mapping[str, Run]) -> list[Json]:
    """The chart of runs that are compared, by name."""
    percents = np.array([1, *range(5, 100, 5), 96, 97, 98, 99, 99.5, 99.9])
    curves, all_ms = [], []
    for (name, run), colour in zip(runs.items(), ("--offered", "--p95"), strict=True):
        all_ms.append(durations_s(only_answered(run.samples)) * 1000)
        if len(all_ms[-1]):
            curves.append(line(name, [percentile(all_ms[-1], percent) for percent in percents], percents, colour))
    note = "Share of the answered requests that took at most this long. The curve further left is faster."
    scale = _scale(np.concatenate(all_ms))
    return [chart("Distribution of latencies", note, curves, "response time, ms", "% of the requests", xaxis=scale)]


def of_search(result: Result) -> list[Json]:
    """The chart of a search."""
    trials = sorted(result.trials, key=lambda trial: trial.rate)
    note = "Each trial: ● objective met, × not met, △ invalid. The dashed line is the result."
    rates, wholes = [trial.rate for trial in trials], [trial.run.whole for trial in trials]
    shapes = [_vertical(rate, "--goal") for rate in (result.found or ())[:1]]
    symbols = [_SYMBOLS.get(trial.run.verdict, "triangle-up-open") for trial in trials]
    return [_rate_latency(note, "requests per second", rates, wholes, symbols, shapes=shapes)]


def _rate_latency(
    note: str, unit: str, levels: Sequence[float], parts: Sequence[Metrics], symbols: str | list[str], **layout: Any
) -> Json:
    values = {percent: np.array([1000 * part.percentile_s(percent) for part in parts]) for percent in _PERCENTS}
    more = {
        "mode": "lines+markers",
        "marker": {"size": 8, "symbol": symbols},
        "text": [f"{part.name}: {part.throughput:.1f} images/s" for part in parts],
    }
    traces = [line(f"p{percent}", levels, values[percent], f"--p{percent}") | more for percent in _PERCENTS]
    finite = np.concatenate(list(values.values()))
    scale = _scale(finite[np.isfinite(finite)])
    return chart("Rate-latency curve", note, traces, unit, "response time, ms", yaxis=scale, **layout)


def _latency_over_time(run: Run) -> Json:
    """Each response as a dot, percentiles of short windows as lines, failures as crosses at the top."""
    good, failed = only_answered(run.samples), run.samples[run.samples["status"] != Status.OK]
    latency_ms = durations_s(good) * 1000
    chosen = _spread(len(good), _MAX_DOTS)
    marker: Json = {"color": "--dot", "size": 5}
    dots = {"type": "scattergl", "mode": "markers", "marker": marker}
    traces = [line("one request", good["intended_s"][chosen], latency_ms[chosen], "--dot") | dots]
    count = int(np.clip(len(good) // _PER_WINDOW, 5, _MAX_WINDOWS))
    edges = np.linspace(0, run.stages[-1].end_s, count + 1)
    windows = np.split(latency_ms, np.searchsorted(good["intended_s"], edges[1:-1]))
    for percent in _PERCENTS:
        values = [percentile(window, percent) if len(window) else math.nan for window in windows]
        traces.append(line(f"p{percent}", _middles(edges), values, f"--p{percent}") | {"connectgaps": True})
    if len(failed):
        chosen = _spread(len(failed), _MAX_CROSSES)
        reasons = [Status(int(status)).description for status in failed["status"][chosen]]
        top = [latency_ms.max(initial=1.0)] * len(chosen)
        marker = {"color": "--failed", "symbol": "x", "size": 6}
        crosses = dots | {"marker": marker, "text": reasons, "hoverinfo": "text+x"}
        traces.append(line("failed", failed["intended_s"][chosen], top, "--failed") | crosses)
    note = "Response time of each request. Lines are percentiles of short windows; × marks failures."
    shapes = [_vertical(stage.start_s, "--line") for stage in run.stages[1:]]
    layout = {"yaxis": _scale(latency_ms), "shapes": shapes}
    return chart("Latency over time", note, traces, _SECONDS, "response time, ms", **layout)


def _distribution(run: Run) -> Json:
    response_ms = durations_s(only_answered(run.samples)) * 1000
    top = 1.02 * (percentile(response_ms, 99.8) if len(response_ms) else 1.0)
    edges = np.linspace(0, top, _BINS + 1)
    counts = np.histogram(np.minimum(response_ms, top), edges)[0]
    trace = line("response time", edges[:-1], counts, "--p95", shape="hv") | {"fill": "tozeroy", "fillcolor": "--dot"}
    bounds = [objective.bound * 1000 for objective in parse(run.options.slo) if objective.percent is not None]
    layout = {"xaxis": _FROM_ZERO, "shapes": [_vertical(bound, "--goal") for bound in bounds if bound <= top]}
    note = "The last bar contains all slower requests. Dashed: objectives."
    return chart("Distribution of latencies", note, [trace], "response time, ms", "requests", **layout)


def _throughput(run: Run) -> Json:
    """Images answered, images failed by reason, and images offered."""
    samples, edges = run.samples, _edges_s(run)
    middles, width_s = _middles(edges), edges[1] - edges[0]
    parts = [("answered", _per_second(only_answered(samples), edges), "--answered")]
    for status, colour in zip(run.whole.failures, itertools.cycle(_REASON_COLOURS), strict=False):
        parts.append((status.description, _per_second(samples[samples["status"] == status], edges), colour))
    traces = [
        bars(name, numbers(middles), numbers(rates), colour) | {"width": width_s * 0.9} for name, rates, colour in parts
    ]
    offered = np.histogram(samples["intended_s"], edges)[0] / width_s
    traces.append(line("offered", middles, offered, "--offered", shape="hvh"))
    note = "Images. Where the bars stay below the line, requests queue up. Failures are at the time of the failure."
    return chart("Throughput and failures", note, traces, _SECONDS, "per second", barmode="stack", showlegend=True)


def _queue_and_compute(run: Run) -> Json:
    """Time of an average request by model, in queue and compute."""
    rows = [
        (step.model, step.mean_queue_s * share_ms, step.mean_compute_s * share_ms, 0.0)
        for step in _computing(run)
        for share_ms in [1000 * step.share_of(len(only_answered(run.samples)))]
    ]
    inside_ms = sum(queue + compute for _, queue, compute, _ in rows)
    # 0 if there is no service time, which is NaN then.
    rows.append(("outside the models", 0.0, 0.0, max(0.0, 1000 * run.whole.mean_service_s - inside_ms)))
    labels, *columns = zip(*rows, strict=True)
    parts = (("queue", "--queue"), ("compute", "--compute"), ("transport and other", "--other"))
    traces = [
        bars(name, numbers(values), labels, colour) | {"orientation": "h"}
        for (name, colour), values in zip(parts, columns, strict=True)
    ]
    note = "Mean time per request in each model's queue, in each model, and outside all models."
    layout = {"yaxis": {"autorange": "reversed"}, "barmode": "stack"}
    return chart("Queue and compute", note, traces, "milliseconds of an average request", "", **layout)


def _batch_sizes(run: Run) -> Json:
    """Share of the executed batches by size, for each model in each stage."""
    models = [step.model for step in _computing(run)]
    rows = [
        (model, stage.name, steps[model].batch_sizes if model in steps else {})
        for model in models
        for stage, steps in zip(run.stages, run.server.stage_steps, strict=True)
    ]
    totals = np.array([sum(sizes.values()) or 1 for *_, sizes in rows])
    labels = [[model for model, *_ in rows], [stage for _, stage, _ in rows]] if len(run.stages) > 1 else models
    largest = max((size for *_, sizes in rows for size in sizes), default=1)
    edges = [0, *(2**power for power in range((largest - 1).bit_length() + 1))]
    traces = []
    for number, (below, edge) in enumerate(itertools.pairwise(edges)):
        counts = [sum(n for size, n in sizes.items() if below < size <= edge) for *_, sizes in rows]
        name = str(edge) if edge - below == 1 else f"{below + 1} to {edge}"
        trace = bars(name, numbers(100 * np.array(counts) / totals), labels, _SIZE_COLOURS[min(number, 5)])
        traces.append(trace | {"orientation": "h", "hovertext": [f"{count} batches of {name}" for count in counts]})
    note = (
        "By images in a batch. If all have one image even under load, dynamic batching is off or requests never wait."
    )
    layout = {"yaxis": {"autorange": "reversed"}, "barmode": "stack", "showlegend": True}
    return chart("Executed batches", note, traces, "% of the batches", "", **layout)


def _machines(run: Run) -> Json:
    """CPU, memory and GPU of the server; CPU of the generator."""
    traces = []
    for name in sorted({name for reading in run.server.readings for name in reading.values}):
        metric, _, gpu = name.partition(" ")
        label, factor, colour, axis = _MACHINE[metric]
        points = [(each.time_s, factor * each.values[name]) for each in run.server.readings if name in each.values]
        times_s, values = zip(*points, strict=True)
        traces.append(line(f"{label} {gpu}".rstrip(), times_s, values, colour) | {"yaxis": axis})
    own = [each for each in run.generator if each.worker == 0]
    cpu = [100 * each.thread_cpu for each in own]
    traces.append(line("generator CPU", [each.time_s for each in own], cpu, "--offered"))
    gigabytes: Json = {"title": {"text": "GB"}, "overlaying": "y", "side": "right", **_FROM_ZERO}
    gigabytes |= {"showgrid": False, "tickformat": ".1f", "automargin": True}
    note = "From the server's metrics endpoint. Generator CPU: share of one core that its sending thread uses."
    layout = {"yaxis": {"range": [0, 105]}, "yaxis2": gigabytes, "showlegend": True}
    return chart("CPU, memory and GPU", run.server.note or note, traces, _SECONDS, "%", **layout)


def _computing(run: Run) -> list[Step]:
    return [step for step in run.server.steps.values() if step.model not in run.server.ensembles]


def _edges_s(run: Run) -> _Array:
    """Edges of periods of about a second, at most sixty."""
    end_s = run.stages[-1].end_s
    return np.linspace(0, end_s, round(min(60, max(1, end_s))) + 1)


def _per_second(samples: Samples, edges_s: _Array) -> _Array:
    """Requests per second in each period, at the time of the response; one that was not sent failed when it was due."""
    ends_s = np.where(np.isnan(samples["done_s"]), samples["intended_s"], samples["done_s"])
    return np.asarray(np.histogram(ends_s, edges_s)[0] / np.diff(edges_s))


def _vertical(x: float, colour: str) -> Json:
    line = {"color": colour, "width": 1.5, "dash": "dash"}
    return {"type": "line", "x0": x, "x1": x, "y0": 0, "y1": 1, "yref": "paper", "line": line}


def _scale(values: _Array) -> Json:
    """Logarithmic where a linear axis would flatten most of the values."""
    if len(values) and values.max() > _WIDE_RANGE * max(1e-9, float(np.median(values))):
        return {"type": "log", "dtick": 1, "minor": {"dtick": "D2", "showgrid": False}}
    return _FROM_ZERO


def _spread(count: int, most: int) -> npt.NDArray[np.intp]:
    """At most that many indices, evenly spread."""
    return np.linspace(0, count - 1, min(count, most)).astype(np.intp)


def _middles(edges: _Array) -> _Array:
    return np.asarray((edges[:-1] + edges[1:]) / 2)
