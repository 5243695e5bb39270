"""Plotly charts, ready for JSON; colours such as ``--p95`` are those of ``page.css``."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

Json: TypeAlias = dict[str, Any]


def chart(title: str, note: str, traces: list[Json], x: str, y: str, **layout: Any) -> Json:
    """A chart with the titles of its axes; ``layout`` is Plotly's."""
    for axis, text in (("xaxis", x), ("yaxis", y)):
        layout[axis] = {"title": {"text": text}} | layout.get(axis, {})
    return {"title": title, "note": note, "traces": traces, "layout": layout}


def line(name: str, x: Iterable[float], y: Iterable[float], colour: str, **style: str) -> Json:
    """A line; ``style`` is Plotly's ``line``."""
    drawn = {"color": colour, "width": 2, **style}
    return {"type": "scatter", "mode": "lines", "name": name, "x": numbers(x), "y": numbers(y), "line": drawn}


def bars(name: str, x: Sequence[Any], y: Sequence[Any], colour: str) -> Json:
    """Bars at ``x`` of height ``y``."""
    return {"type": "bar", "name": name, "x": x, "y": y, "marker": {"color": colour}}


def numbers(values: Iterable[float]) -> list[float | None]:
    """Rounded for JSON; a value that is not finite becomes a gap."""
    return [round(float(value), 3) if math.isfinite(value) else None for value in values]
