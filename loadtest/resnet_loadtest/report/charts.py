"""The charts of a run, of a search and of a comparison."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from resnet_client.report.charts import Json, bars, chart, line, numbers

from resnet_loadtest.analysis import Run, Verdict
from resnet_loadtest.metrics import Metrics
from resnet_loadtest.percentiles import percentile
from resnet_loadtest.samples import Samples, Status, images_answered, response_s, service_s
from resnet_loadtest.search import Result, Trial
from resnet_loadtest.server_statistics import Step
from resnet_loadtest.slo import parse

_PERCENTS = (50, 95, 99)
_MAX_DOTS, _MAX_CROSSES = 4000, 1000
_MAX_WINDOWS, _PER_WINDOW = 60, 20
_BINS = 60
_WIDE_RANGE = 10
_SECONDS = "seconds since the run began"
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
    charts = [_latency_over_time(run), _distribution(run), _throughput(run), _in_flight(run)]
    charts += [_queue_and_compute(run), _batch_sizes(run), _machines(run)]
    if run.whole.failures:
        charts.insert(3, _failures(run))
    if len({part.level for part in run.parts}) > 1:
        note = "The curve is flat below capacity and rises steeply at capacity."
        unit = "requests per second offered" if run.options.is_open_loop else "users"
        levels = [part.level for part in run.parts]
        charts.insert(0, _rate_latency(note, unit, levels, run.parts, "circle", xaxis={"rangemode": "tozero"}))
    return charts


def of_comparison(runs: Mapping[str, Run]) -> list[Json]:
    """The charts of runs that are compared, by name."""
    answered = {name: run.samples[run.samples["status"] == Status.OK] for name, run in runs.items()}
    latency_ms = {name: response_s(samples) * 1000 for name, samples in answered.items()}
    colours = dict(zip(runs, ("--offered", "--p95"), strict=True))
    percents = np.array([1, *range(5, 100, 5), 96, 97, 98, 99, 99.5, 99.9])
    curves = [
        line(name, [percentile(values, percent) for percent in percents], percents, colours[name])
        for name, values in latency_ms.items()
        if len(values)
    ]
    rates = []
    for name, run in runs.items():
        edges, width_s = _seconds(run)
        counts = np.histogram(_ends_s(answered[name]), edges, weights=answered[name]["answered"])[0]
        rates.append(line(name, _middles(edges), counts / width_s, colours[name]))
    note = "Share of the answered requests that took at most this long. The curve further left is faster."
    zero = {"rangemode": "tozero"}
    scale = _scale(np.concatenate(list(latency_ms.values())))
    return [
        chart("Distribution of latencies", note, curves, "response time, ms", "% of the requests", xaxis=scale),
        chart("Throughput", "Images answered.", rates, _SECONDS, "per second", xaxis=zero, yaxis=zero),
    ]


def of_search(result: Result) -> list[Json]:
    """All charts of a search."""
    trials = sorted(result.trials, key=lambda trial: trial.rate)
    symbols = [_symbol(trial) for trial in trials]
    note = "Each trial: ● objective met, × not met, △ invalid. The dashed line is the result."
    rates, wholes = [trial.rate for trial in trials], [trial.run.whole for trial in trials]
    shapes = [_vertical(rate, "--goal") for rate in (result.found or ())[:1]]
    curve = _rate_latency(note, "requests per second", rates, wholes, symbols, shapes=shapes)
    markers = {"size": 10, "symbol": [_symbol(trial) for trial in result.trials]}
    tried = line("rate", range(1, len(trials) + 1), [trial.rate for trial in result.trials], "--p95")
    tried |= {"mode": "lines+markers", "marker": markers}
    note = "The rates in the order of the trials; each search after the first starts near the previous result."
    return [curve, chart("Search", note, [tried], "trial", "requests per second", yaxis={"rangemode": "tozero"})]


def _symbol(trial: Trial) -> str:
    return _SYMBOLS.get(trial.run.verdict, "triangle-up-open")


def _rate_latency(
    note: str, unit: str, levels: Sequence[float], parts: Sequence[Metrics], symbols: str | list[str], **layout: Any
) -> Json:
    values = {percent: [1000 * part.percentile_s(percent) for part in parts] for percent in _PERCENTS}
    more = {
        "mode": "lines+markers",
        "marker": {"size": 8, "symbol": symbols},
        "text": [f"{part.name}: {part.throughput:.1f} images/s" for part in parts],
    }
    traces = [line(f"p{percent}", levels, values[percent], f"--p{percent}") | more for percent in _PERCENTS]
    finite = np.array([value for each in values.values() for value in each if math.isfinite(value)])
    return chart("Rate-latency curve", note, traces, unit, "response time, ms", yaxis=_scale(finite), **layout)


def _latency_over_time(run: Run) -> Json:
    """Each response as a dot, percentiles of short windows as lines, failures as crosses at the top."""
    is_ok = run.samples["status"] == Status.OK
    answered, failed = run.samples[is_ok], run.samples[~is_ok]
    latency_ms = response_s(answered) * 1000
    chosen = _spread(len(answered), _MAX_DOTS)
    dots = line("one request", answered["intended_s"][chosen], latency_ms[chosen], "--dot")
    traces = [dots | {"type": "scattergl", "mode": "markers", "marker": {"color": "--dot", "size": 5}}]
    count = int(np.clip(len(answered) // _PER_WINDOW, 5, _MAX_WINDOWS))
    edges = np.linspace(0, run.stages[-1].end_s, count + 1)
    windows = np.split(latency_ms, np.searchsorted(answered["intended_s"], edges[1:-1]))
    for percent in _PERCENTS:
        values = [percentile(window, percent) if len(window) else math.nan for window in windows]
        traces.append(line(f"p{percent}", _middles(edges), values, f"--p{percent}") | {"connectgaps": True})
    if len(failed):
        chosen = _spread(len(failed), _MAX_CROSSES)
        reasons = [Status(int(status)).description for status in failed["status"][chosen]]
        top = latency_ms.max(initial=1.0)
        crosses = line("failed", failed["intended_s"][chosen], [top] * len(chosen), "--failed")
        marker = {"color": "--failed", "symbol": "x", "size": 6}
        more = {"type": "scattergl", "mode": "markers", "marker": marker, "text": reasons, "hoverinfo": "text+x"}
        traces.append(crosses | more)
    note = "Response time of each request. Lines are percentiles of short windows; × marks failures."
    shapes = [_vertical(stage.start_s, "--line") for stage in run.stages[1:]]
    layout = {"yaxis": _scale(latency_ms), "shapes": shapes}
    return chart("Latency over time", note, traces, _SECONDS, "response time, ms", **layout)


def _distribution(run: Run) -> Json:
    answered = run.samples[run.samples["status"] == Status.OK]
    response_ms, service_ms = response_s(answered) * 1000, service_s(answered) * 1000
    top = 1.02 * (percentile(response_ms, 99.8) if len(response_ms) else 1.0)
    edges = np.linspace(0, top, _BINS + 1)

    def outline(name: str, values: npt.NDArray[np.float64], colour: str, dash: str) -> Json:
        counts = np.histogram(np.minimum(values, top), edges)[0]
        return line(name, edges[:-1], counts, colour, shape="hv", dash=dash)

    traces = [outline("response time", response_ms, "--p95", "solid") | {"fill": "tozeroy", "fillcolor": "--dot"}]
    note = "The last bar contains all slower requests."
    if run.options.is_open_loop:
        traces.append(outline("service time", service_ms, "--queue", "dot"))
        note = f"Response time counts from the scheduled time, service time from the actual send. {note}"
    bounds = [objective.bound * 1000 for objective in parse(run.options.slo) if objective.percent is not None]
    shapes = [_vertical(bound, "--goal") for bound in bounds if bound <= top]
    layout = {"xaxis": {"rangemode": "tozero"}, "shapes": shapes}
    return chart("Distribution of latencies", note, traces, "milliseconds", "requests", **layout)


def _throughput(run: Run) -> Json:
    samples = run.samples
    edges, width_s = _seconds(run)
    ends_s = _ends_s(samples)
    traces = []
    for name, colour in (("answered", "--answered"), ("failed", "--failed")):
        rates = np.histogram(ends_s, edges, weights=samples[name])[0] / width_s
        trace = bars(f"images {name}", numbers(_middles(edges)), numbers(rates), colour)
        traces.append(trace | {"width": width_s * 0.9})
    offered = np.histogram(samples["intended_s"], edges, weights=samples["answered"] + samples["failed"])[0] / width_s
    traces.append(line("images offered", _middles(edges), offered, "--offered", shape="hvh"))
    note = "Where the bars stay below the line, requests queue up."
    return chart("Throughput and errors", note, traces, _SECONDS, "per second", barmode="stack")


def _seconds(run: Run) -> tuple[npt.NDArray[np.float64], float]:
    """Edges of at most sixty periods of the run, and the length of one."""
    end_s = run.stages[-1].end_s
    width_s = max(1.0, end_s / 60)
    return np.arange(0, end_s + width_s / 2, width_s), width_s


def _ends_s(samples: Samples) -> npt.NDArray[np.float64]:
    """When requests ended; one that was not sent failed when it was due."""
    return np.where(np.isnan(samples["done_s"]), samples["intended_s"], samples["done_s"])


def _failures(run: Run) -> Json:
    """Failed requests by reason."""
    edges, width_s = _seconds(run)
    traces = []
    for status, colour in zip(run.whole.failures, itertools.cycle(_REASON_COLOURS), strict=False):
        ended_s = _ends_s(run.samples[run.samples["status"] == status])
        rates = np.histogram(ended_s, edges)[0] / width_s
        traces.append(bars(status.description, numbers(_middles(edges)), numbers(rates), colour))
    note = "Failed requests, at the time of the failure."
    return chart("Failures by reason", note, traces, _SECONDS, "per second", barmode="stack", showlegend=True)


def _in_flight(run: Run) -> Json:
    by_second: dict[int, float] = {}
    for each in run.generator:
        second = round(each.time_s)
        by_second[second] = by_second.get(second, 0.0) + each.in_flight
    points = sorted((second, value) for second, value in by_second.items() if second >= 0)
    trace = line("in flight", [second for second, _ in points], [value for _, value in points], "--p95")
    note = "Grows while more requests arrive than are answered."
    if means := run.in_flight(run.whole):
        note += f" Mean: {means[0]:.1f} counted, {means[1]:.1f} by Little's law."
    trace |= {"fill": "tozeroy", "fillcolor": "--dot"}
    return chart("Requests in flight", note, [trace], _SECONDS, "requests", yaxis={"rangemode": "tozero"})


def _queue_and_compute(run: Run) -> Json:
    """Time of an average request by model, in queue and compute."""
    steps = _computing(run)
    shares = [step.share_of(images_answered(run.samples)) * 1000 for step in steps]
    queue = [step.mean_queue_s * share for step, share in zip(steps, shares, strict=True)]
    compute = [step.mean_compute_s * share for step, share in zip(steps, shares, strict=True)]
    service_ms = run.whole.mean_service_s * 1000
    outside = 0.0 if math.isnan(service_ms) else max(0.0, service_ms - sum(queue) - sum(compute))
    labels = [*(step.model for step in steps), "outside the models"]
    traces = [
        bars(name, numbers(values), labels, colour) | {"orientation": "h"}
        for name, values, colour in (
            ("queue", [*queue, 0.0], "--queue"),
            ("compute", [*compute, 0.0], "--compute"),
            ("transport and other", [*(0.0 for _ in steps), outside], "--other"),
        )
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
    largest = max((size for *_, sizes in rows for size in sizes), default=1)
    edges = [2**power for power in range(max(1, largest - 1).bit_length() + 1)]
    traces = []
    for number, (below, edge) in enumerate(itertools.pairwise([0, *edges])):
        counts = [sum(n for size, n in sizes.items() if below < size <= edge) for *_, sizes in rows]
        totals = [sum(sizes.values()) for *_, sizes in rows]
        shares = [100 * count / (total or 1) for count, total in zip(counts, totals, strict=True)]
        labels = [[model for model, *_ in rows], [stage for _, stage, _ in rows]]
        name = str(edge) if edge - below == 1 else f"{below + 1} to {edge}"
        trace = bars(name, numbers(shares), labels if len(run.stages) > 1 else models, _SIZE_COLOURS[min(number, 5)])
        traces.append(trace | {"orientation": "h", "hovertext": [f"{count} batches of {name}" for count in counts]})
    note = (
        "By images in a batch. If all have one image even under load, dynamic batching is off or requests never wait."
    )
    layout = {"yaxis": {"autorange": "reversed"}, "barmode": "stack", "showlegend": True}
    return chart("Executed batches", note, traces, "% of the batches", "", **layout)


def _machines(run: Run) -> Json:
    """CPU, memory and GPU of the server; CPU of the generator."""
    traces = []
    names = sorted({name for reading in run.server.readings for name in reading.values})
    for metric, (label, factor, colour, axis) in _MACHINE.items():
        for name in names:
            if name.partition(" ")[0] == metric:
                points = [(each.time_s, each.values[name]) for each in run.server.readings if name in each.values]
                values = [factor * value for _, value in points]
                trace = line(name.replace(metric, label), [time_s for time_s, _ in points], values, colour)
                traces.append(trace | {"yaxis": axis})
    own = [each for each in run.generator if each.worker == 0]
    cpu = [100 * each.thread_cpu for each in own]
    traces.append(line("generator CPU", [each.time_s for each in own], cpu, "--offered"))
    gigabytes: Json = {"title": {"text": "GB"}, "overlaying": "y", "side": "right", "rangemode": "tozero"}
    gigabytes |= {"showgrid": False, "tickformat": ".1f", "automargin": True}
    note = (
        run.server.note
        or "From the server's metrics endpoint. Generator CPU: share of one core that its sending thread uses."
    )
    layout = {"yaxis": {"range": [0, 105]}, "yaxis2": gigabytes, "showlegend": True}
    return chart("CPU, memory and GPU", note, traces, _SECONDS, "%", **layout)


def _computing(run: Run) -> list[Step]:
    return [step for step in run.server.steps.values() if step.model not in run.server.ensembles]


def _vertical(x: float, colour: str) -> Json:
    style = {"color": colour, "width": 1.5, "dash": "dash"}
    return {"type": "line", "x0": x, "x1": x, "y0": 0, "y1": 1, "yref": "paper", "line": style}


def _scale(values: npt.NDArray[np.float64]) -> Json:
    """Logarithmic where a linear axis would flatten most of the values."""
    if len(values) and values.max() > _WIDE_RANGE * max(1e-9, float(np.median(values))):
        return {"type": "log", "dtick": 1, "minor": {"dtick": "D2", "showgrid": False}}
    return {"rangemode": "tozero"}


def _spread(count: int, most: int) -> npt.NDArray[np.intp]:
    """At most that many indices, evenly spread."""
    return np.linspace(0, count - 1, min(count, most)).astype(np.intp)


def _middles(edges: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.asarray((edges[:-1] + edges[1:]) / 2)
