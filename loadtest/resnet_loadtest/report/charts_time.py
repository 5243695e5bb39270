"""Charts of a run over time and of its latencies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from resnet_loadtest.quantiles import percentile
from resnet_loadtest.report.page import Chart
from resnet_loadtest.samples import Fate, response_s, service_s
from resnet_loadtest.slo import parse

if TYPE_CHECKING:
    import numpy.typing as npt

    from resnet_loadtest.analysis import Run
    from resnet_loadtest.samples import Samples

_MOST_DOTS = 4000
_WINDOWS = 60
_PER_WINDOW = 20
_WIDE_RANGE = 40
_BINS = 60


def latency_over_time(run: Run) -> Chart:
    """Each answer as a dot, percentiles of each window as lines."""
    answered = run.samples[run.samples["fate"] == Fate.OK]
    milliseconds = response_s(answered) * 1000
    chosen = np.linspace(0, len(answered) - 1, min(len(answered), _MOST_DOTS)).astype(int)
    dots = {
        "type": "scattergl", "mode": "markers", "name": "one request", "marker": {"color": "@dot", "size": 5},
        "x": _rounded(answered["intended_s"][chosen], 2), "y": _rounded(milliseconds[chosen], 2),
    }  # fmt: skip
    traces = [dots, *_percentile_lines(run, answered, milliseconds), *_failures(run.samples, milliseconds)]
    layout: dict[str, Any] = {
        "xaxis": {"title": "seconds since the run began"},
        "yaxis": {"title": "response time, ms", **_scale(milliseconds)},
        "shapes": _stage_lines(run),
    }
    note = "Counted from when a request was to be sent. Lines are percentiles of short windows; × marks failures."
    return Chart("Latency over time", note, traces, layout)


def histogram(run: Run) -> Chart:
    """How response and service times are spread, with the objectives' bounds."""
    answered = run.samples[run.samples["fate"] == Fate.OK]
    response, service = response_s(answered) * 1000, service_s(answered) * 1000
    top = percentile(response, 99.8) if len(response) else 1.0
    edges = np.linspace(0, top * 1.02, _BINS + 1)
    kinds = [("response time", response, "@p95", "solid")]
    if run.options.is_open_loop:
        kinds.append(("service time", service, "@queue", "dot"))
    traces: list[dict[str, Any]] = [
        {
            "type": "scatter", "mode": "lines", "name": name, "x": _rounded(edges[:-1], 3),
            "y": np.histogram(np.minimum(values, edges[-1]), edges)[0].tolist(),
            "line": {"shape": "hv", "color": colour, "width": 2, "dash": dash},
            **({"fill": "tozeroy", "fillcolor": "@dot"} if dash == "solid" else {}),
        }
        for name, values, colour, dash in kinds
    ]  # fmt: skip
    bounds = [o.bound * 1000 for o in parse(run.options.slo) if o.percent is not None]
    shapes = [_vertical(bound, "@goal") for bound in bounds if bound <= top * 1.02]
    layout = {
        "xaxis": {"title": "milliseconds", "rangemode": "tozero"},
        "yaxis": {"title": "requests"},
        "shapes": shapes,
    }
    note = "Slower ones than fit are in the last bar."
    if run.options.is_open_loop:
        note = (
            "Response counts from the intended sending, service from the actual: apart, requests waited to be sent. "
            + note
        )
    return Chart("Spread of latencies", note, traces, layout)


def throughput_and_errors(run: Run) -> Chart:
    """Asked, answered and failed per second."""
    end_s = run.stages[-1].end_s
    width_s = max(1.0, end_s / 60)
    edges = np.arange(0, end_s + width_s / 2, width_s)
    middle = _rounded(edges[:-1] + width_s / 2, 2)
    samples = run.samples
    failed = samples["fate"] != Fate.OK
    # What was never sent has no end; it failed when it was to be sent.
    ends = np.where(np.isnan(samples["done_s"]), samples["intended_s"], samples["done_s"])

    def per_second(times: npt.NDArray[np.float64], weights: npt.NDArray[Any] | None = None) -> list[float]:
        return _rounded(np.histogram(times, edges, weights=weights)[0] / width_s, 3)

    bar = {"type": "bar", "x": middle, "width": width_s * 0.9}
    traces: list[dict[str, Any]] = [
        {**bar, "name": "photos answered",
            "y": per_second(ends, samples["answered"]), "marker": {"color": "@answered"}},
        {**bar, "name": "photos failed",
            "y": per_second(ends[failed], samples["failed"][failed]), "marker": {"color": "@failed"}},
        {
            "type": "scatter", "mode": "lines", "name": "requests to be sent", "x": middle,
            "y": per_second(samples["intended_s"]), "line": {"color": "@offered", "width": 2, "shape": "hvh"},
        },
    ]  # fmt: skip
    layout = {"barmode": "stack", "xaxis": {"title": "seconds since the run began"}, "yaxis": {"title": "per second"}}
    note = "Where answers stay below what was to be sent, requests pile up."
    return Chart("Throughput and errors", note, traces, layout)


def rate_latency(run: Run) -> Chart:
    """Latency of each stage against its load."""
    parts = [part for part in run.parts if part.requests]
    unit = "requests per second asked" if run.options.is_open_loop else "users"
    traces = []
    for percent in (50, 95, 99):
        values = [part.percentile_s(percent) * 1000 for part in parts]
        known = [(part, value) for part, value in zip(parts, values, strict=True) if np.isfinite(value)]
        traces.append(
            {
                "type": "scatter", "mode": "lines+markers", "name": f"p{percent}",
                "x": [round(part.level, 3) for part, _ in known], "y": _rounded([value for _, value in known], 2),
                "text": [f"{part.name}: {part.throughput:.1f} photos/s" for part, _ in known],
                "line": {"color": f"@p{percent}", "width": 2.5}, "marker": {"size": 8},
            }
        )  # fmt: skip
    finite = np.array([value for trace in traces for value in trace["y"]])
    layout = {
        "xaxis": {"title": unit, "rangemode": "tozero"},
        "yaxis": {"title": "response time, ms", **_scale(finite)},
    }
    return Chart(
        "Rate-latency curve", "Flat while there is room; it turns up where the server is full.", traces, layout
    )


def _percentile_lines(run: Run, answered: Samples, milliseconds: npt.NDArray[np.float64]) -> list[dict[str, Any]]:
    count = int(np.clip(len(answered) // _PER_WINDOW, 5, _WINDOWS))
    edges = np.linspace(0, run.stages[-1].end_s, count + 1)
    window = np.digitize(answered["intended_s"], edges) - 1
    traces = []
    for percent in (50, 95, 99):
        points = [
            ((edges[i] + edges[i + 1]) / 2, percentile(milliseconds[window == i], percent))
            for i in range(count)
            if np.any(window == i)
        ]
        traces.append(
            {
                "type": "scatter", "mode": "lines", "name": f"p{percent}",
                "x": _rounded([x for x, _ in points], 2), "y": _rounded([y for _, y in points], 2),
                "line": {"color": f"@p{percent}", "width": 2},
            }
        )  # fmt: skip
    return traces


def _failures(samples: Samples, milliseconds: npt.NDArray[np.float64]) -> list[dict[str, Any]]:
    failed = samples[samples["fate"] != Fate.OK]
    if not len(failed):
        return []
    top = float(milliseconds.max()) if len(milliseconds) else 1.0
    chosen = np.linspace(0, len(failed) - 1, min(len(failed), _MOST_DOTS // 4)).astype(int)
    return [
        {
            "type": "scattergl", "mode": "markers", "name": "failed", "x": _rounded(failed["intended_s"][chosen], 2),
            "y": [round(top, 2)] * len(chosen), "marker": {"color": "@failed", "symbol": "x", "size": 6},
            "text": [Fate(int(fate)).meaning for fate in failed["fate"][chosen]], "hoverinfo": "text+x",
        }
    ]  # fmt: skip


def _stage_lines(run: Run) -> list[dict[str, Any]]:
    return [_vertical(stage.start_s, "@line") for stage in run.stages[1:]]


def _vertical(x: float, colour: str) -> dict[str, Any]:
    line = {"color": colour, "width": 1.5, "dash": "dash"}
    return {"type": "line", "x0": x, "x1": x, "y0": 0, "y1": 1, "yref": "paper", "line": line}


def _scale(values: npt.NDArray[np.float64]) -> dict[str, Any]:
    """Logarithmic where a linear axis would press most of the values to the ground."""
    if len(values) and values.max() > _WIDE_RANGE * max(1e-9, float(np.median(values))) / 4:
        return {"type": "log", "dtick": 1, "minor": {"dtick": "D2", "showgrid": False}}
    return {"rangemode": "tozero"}


def _rounded(values: Any, digits: int) -> list[float]:
    return [round(float(value), digits) for value in values]
