"""Charts of the server's side, and of the generator's own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from resnet_loadtest.counts import photos_answered
from resnet_loadtest.report.page import Chart

if TYPE_CHECKING:
    from resnet_loadtest.analysis import Run
    from resnet_loadtest.server_statistics import Step

_COLOURS = ("@compute", "@decode", "@memory", "@queue", "@other")
_GIGABYTE = 1e9


def _computing(run: Run) -> list[Step]:
    return [step for step in run.server.steps.values() if step.model not in run.server.ensembles]


def batch_sizes(run: Run) -> Chart:
    """How large the executed batches were."""
    traces = []
    for number, step in enumerate(_computing(run)):
        total = sum(step.batch_sizes.values()) or 1
        traces.append(
            {
                "type": "bar", "name": step.model, "x": [str(size) for size in step.batch_sizes],
                "y": [round(100 * count / total, 2) for count in step.batch_sizes.values()],
                "text": [f"{count} batches" for count in step.batch_sizes.values()], "textposition": "none",
                "marker": {"color": _COLOURS[number % len(_COLOURS)]},
            }
        )  # fmt: skip
    sizes = sorted({size for step in _computing(run) for size in step.batch_sizes})
    layout = {
        "barmode": "group",
        "xaxis": {"title": "photos in a batch", "type": "category", "categoryarray": [str(size) for size in sizes]},
        "yaxis": {"title": "% of the batches"},
    }
    note = (
        "What the server computed at once. All at 1 under load: dynamic batching is off, or there is nothing to batch."
    )
    return Chart("Executed batches", note, traces, layout)


def queue_and_compute(run: Run) -> Chart:
    """Where an average request spends its time."""
    steps = _computing(run)
    answered = photos_answered(run.samples)
    names = [step.model for step in steps]
    queue = [step.mean_queue_s * step.share_of(answered) * 1000 for step in steps]
    compute = [step.mean_compute_s * step.share_of(answered) * 1000 for step in steps]
    service = run.whole.mean_service_s * 1000
    outside = max(0.0, service - sum(queue) - sum(compute)) if service == service else 0.0  # noqa: PLR0124  # not NaN
    labels = [*names, "outside"]

    def bars(name: str, values: list[float], colour: str) -> dict[str, Any]:
        shown = [round(value, 2) for value in values]
        return {"type": "bar", "orientation": "h", "name": name, "y": labels, "x": shown, "marker": {"color": colour}}

    traces = [
        bars("waiting", [*queue, 0.0], "@queue"),
        bars("computing", [*compute, 0.0], "@compute"),
        bars("network and the rest", [*[0.0] * len(names), outside], "@other"),
    ]
    layout = {
        "barmode": "stack",
        "xaxis": {"title": "milliseconds of an average request"},
        "yaxis": {"autorange": "reversed"},
    }
    note = "Waiting in a model's queue, computing in it, and what passes outside of all models."
    return Chart("Queue against compute", note, traces, layout)


def machines(run: Run) -> Chart:
    """Processor, memory and GPU of the server; processor of the generator."""
    traces: list[dict[str, Any]] = []

    def add(name: str, metric: str, factor: float, colour: str, axis: str = "y") -> None:
        points = [(r.time_s, r.values[metric] * factor) for r in run.server.readings if metric in r.values]
        if points:
            traces.append(_line(name, points, colour, axis))

    add("server CPU", "nv_cpu_utilization", 100, "@compute")
    add("server memory", "nv_cpu_memory_used_bytes", 1 / _GIGABYTE, "@memory", "y2")
    gpus = sorted({name for r in run.server.readings for name in r.values if name.startswith("nv_gpu_util")})
    for gpu in gpus:
        number = gpu.removeprefix("nv_gpu_utilization")
        add(f"GPU{number}", gpu, 100, "@decode")
        add(f"GPU{number} memory", f"nv_gpu_memory_used_bytes{number}", 1 / _GIGABYTE, "@queue", "y2")
    own = [(gauge.time_s, gauge.thread_cpu * 100) for gauge in run.gauges if gauge.worker == 0]
    traces.append(_line("generator CPU", own, "@offered"))
    layout = {
        "showlegend": True,  # also of the generator alone
        "xaxis": {"title": "seconds since the run began"},
        "yaxis": {"title": "%", "range": [0, 105]},
        "yaxis2": {
            "title": "GB",
            "overlaying": "y",
            "side": "right",
            "rangemode": "tozero",
            "showgrid": False,
            "tickformat": ".1f",
        },
    }
    note = (
        run.server.note or "From the server's metrics endpoint; the generator's line is its sending thread on one core."
    )
    return Chart("The machines", note, traces, layout)


def in_flight(run: Run) -> Chart:
    """Requests under way, as seen every second."""
    by_second: dict[int, float] = {}
    for gauge in run.gauges:
        second = round(gauge.time_s)
        by_second[second] = by_second.get(second, 0.0) + gauge.in_flight
    points = [(float(second), value) for second, value in sorted(by_second.items()) if second >= 0]
    layout = {"xaxis": {"title": "seconds since the run began"}, "yaxis": {"title": "requests", "rangemode": "tozero"}}
    little = run.little(run.whole)
    note = "Growing without end means that more comes in than is answered."
    if little is not None:
        note += (
            f" On average {little[0]:.1f} were seen; by Little's law, from the requests' own times, there were "
            f"{little[1]:.1f}."
        )
    trace = {**_line("in flight", points, "@p95"), "fill": "tozeroy", "fillcolor": "@dot"}
    return Chart("Requests under way", note, [trace], layout)


def _line(name: str, points: list[tuple[float, float]], colour: str, axis: str = "y") -> dict[str, Any]:
    return {
        "type": "scatter", "mode": "lines", "name": name, "yaxis": axis, "line": {"color": colour, "width": 2},
        "x": [round(x, 2) for x, _ in points], "y": [round(y, 3) for _, y in points],
    }  # fmt: skip
