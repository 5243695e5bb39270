"""A plan as a page and as JSON."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from resnet_loadtest.report.numbers import milliseconds
from resnet_loadtest.report.page import Chart, Page, Table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from resnet_loadtest.judge.run import Run
    from resnet_loadtest.sizing.plan import Plan

_DOTS = 120
_AROUND = 3


def document(plan: Plan) -> dict[str, Any]:
    """The plan, ready for JSON; times in seconds."""
    return {
        "schema": "resnet-loadtest-plan/1",
        "demand": dataclasses.asdict(plan.demand),
        "needed": plan.needed,
        "servers": plan.servers,
        "gpus": plan.gpus,
        "cost_per_month": plan.cost_per_month,
        "load": plan.load(plan.needed),
        "predicted_s": plan.latency_s(plan.needed),
        "queue": dataclasses.asdict(plan.queue),
        "measured": [dataclasses.asdict(point) for point in plan.curve.points],
        "beyond_measured": plan.is_beyond_measured,
    }


def rows(plan: Plan) -> list[list[str]]:
    """Numbers of servers around the answer, with load and predicted time."""
    around = range(max(1, plan.needed - _AROUND), plan.servers + 2)
    return [
        [
            str(n),
            f"{plan.load(n):.0%}",
            _shown(plan.latency_s(n)),
            "yes" if plan.objective.is_met_by(plan.latency_s(n)) else "no",
        ]
        for n in around
    ]


def page(plan: Plan, run: Run) -> Page:
    """Lay it out."""
    demand = plan.demand
    money = plan.cost_per_month
    tiles = [
        ("servers", str(plan.servers), f"{plan.needed} needed, {demand.spare} to spare"),
        ("load of each", f"{plan.load(plan.needed):.0%}", f"of {plan.queue.capacity:.1f}/s, with {plan.needed}"),
        (demand.slo.partition("<")[0], _shown(plan.latency_s(plan.needed)), "predicted"),
        *([("GPUs", str(plan.gpus), f"{demand.gpus_per_server} for each server")] if plan.gpus else []),
        *([("cost per month", f"{money:,.0f}", "730 hours")] if money is not None else []),
    ]
    doubt = "More load for each server than the report has measured: measure higher before you believe it."
    return Page(
        title=f"{plan.servers} servers for {demand.rate:g}/s with {plan.objective.text}",
        subtitle=f"from one {run.server.name}, {run.options.model}, {run.started}",
        verdict="MEASURED",
        sentence=f"{plan.needed} servers meet {plan.objective.text} at {demand.rate:g} requests per second",
        limit="",
        findings=[("doubt", doubt)] if plan.is_beyond_measured else [],
        tiles=tiles,
        sections=[_one_server(plan), _fleet(plan), Table("Around it", "", HEAD, rows(plan))],
        details=[
            (name, str(value))
            for name, value in {**dataclasses.asdict(demand), **dataclasses.asdict(plan.queue)}.items()
        ],
    )


HEAD: Sequence[str] = ("servers", "load of each", "predicted", "met")


def _one_server(plan: Plan) -> Chart:
    rates = np.linspace(0.01, 0.97, _DOTS) * plan.queue.capacity
    fitted = [plan.queue.latency_s(rate) * 1000 for rate in rates]
    traces: list[dict[str, Any]] = [
        {
            "type": "scatter", "mode": "markers", "name": "measured", "marker": {"size": 10, "color": "@p99"},
            "x": [round(point.rate, 3) for point in plan.curve.points],
            "y": [round(point.latency_s * 1000, 3) for point in plan.curve.points],
        },
        {
            "type": "scatter", "mode": "lines", "name": "fitted queue", "line": {"color": "@p50", "width": 2},
            "x": np.round(rates, 3).tolist(), "y": np.round(fitted, 3).tolist(),
        },
    ]  # fmt: skip
    note = f"The fitted queue misses the measured points by {plan.queue.error:.1%} (root mean square)."
    layout = {
        "xaxis": {"title": "requests per second"},
        "yaxis": {"title": "ms", "type": "log"},
        "shapes": [_goal(plan)],
    }
    return Chart("One server", note, traces, layout)


def _fleet(plan: Plan) -> Chart:
    numbers = [n for n in range(1, 2 * plan.servers + 1) if math.isfinite(plan.latency_s(n))]
    trace = {
        "type": "scatter", "mode": "lines+markers", "name": "predicted", "line": {"color": "@p95", "width": 2},
        "x": numbers, "y": [round(plan.latency_s(n) * 1000, 3) for n in numbers],
    }  # fmt: skip
    layout = {"xaxis": {"title": "servers"}, "yaxis": {"title": "ms", "type": "log"}, "shapes": [_goal(plan)]}
    return Chart(
        "The fleet", f"At {plan.demand.rate:g} requests per second; the dashed line is the objective.", [trace], layout
    )


def _goal(plan: Plan) -> dict[str, Any]:
    bound = plan.objective.bound * 1000
    line = {"color": "@goal", "width": 1.5, "dash": "dash"}
    return {"type": "line", "x0": 0, "x1": 1, "xref": "paper", "y0": bound, "y1": bound, "line": line}


def _shown(seconds: float) -> str:
    return "overloaded" if math.isinf(seconds) else milliseconds(seconds)
