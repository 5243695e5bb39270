"""A run as JSON: figures for programs, and the full sample, so that anybody can compute others."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import TYPE_CHECKING, Any

from resnet_loadtest.analysis import Run, ServerSide
from resnet_loadtest.generator_metrics import Gauge
from resnet_loadtest.metrics import PERCENTILES
from resnet_loadtest.options import Options
from resnet_loadtest.report import typed
from resnet_loadtest.samples import decode, encode
from resnet_loadtest.schedule import Stage
from resnet_loadtest.server_metrics import Reading
from resnet_loadtest.server_statistics import Step
from resnet_loadtest.slo import parse

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from resnet_loadtest.metrics import Figures

SCHEMA = "resnet-loadtest/2"
SEARCH_SCHEMA = "resnet-loadtest-search/1"

# Of what is read, in seconds: a run of a month, and a stage that something can happen in.
_LONGEST_S = 31 * 86400.0
_SHORTEST_S = 1e-3


def write(run: Run, path: Path) -> None:
    """Write a run to a file."""
    path.write_text(json.dumps(_finite(document(run)), indent=1) + "\n", encoding="utf-8")


def read(path: Path) -> Run:
    """Read what :func:`write` wrote.

    Raises:
        ValueError: it is something else.
        OSError: it cannot be read.
    """
    content = path.read_bytes()
    try:
        found = json.loads(content)
        if found["schema"] != SEARCH_SCHEMA:
            return _run(_of_this_version(found))
    except (LookupError, TypeError, AttributeError, ValueError, RecursionError) as exc:
        raise ValueError(f"{path} is no report of resnet-loadtest: {exc}") from exc
    raise ValueError(f"{path} is the report of a search (find-slo); only the report of a run can be read again")


def document(run: Run) -> dict[str, Any]:
    """A run, ready for JSON; times in seconds, shares from 0 to 1, infinite times as null."""
    return {
        "schema": SCHEMA,
        "verdict": run.verdict.name,
        "doubts": run.doubts,
        "limit": run.limit,
        "objectives": [
            {"part": check.part, "objective": check.objective.text, "measured": check.measured, "is_met": check.is_met}
            for check in run.checks
        ],
        "whole": figures(run, run.whole),
        "stages": [figures(run, part) for part in run.parts],
        "memory_growth": run.memory_growth,
        "raw": _raw(run),
    }


def figures(run: Run, part: Figures) -> dict[str, Any]:
    """The figures of a stage."""
    little = run.little(part)
    return {
        "name": part.name,
        "start_s": part.start_s,
        "duration_s": part.duration_s,
        "level": part.level,
        "requests": part.requests,
        "sent": part.sent,
        "offered_per_s": part.offered,
        "throughput_per_s": part.throughput,
        "error_rate": part.error_rate,
        "failures": {fate.name.lower(): count for fate, count in part.failures.items()},
        "response_s": _percentiles(part, "response"),
        "service_s": _percentiles(part, "service"),
        "mean_s": part.mean_s,
        "max_s": part.max_s,
        "late_p99_s": part.late_s(99),
        "generator_cpu": run.busiest(part),
        "in_flight": None if little is None else {"seen": little[0], "by_littles_law": little[1]},
    }


def _percentiles(part: Figures, of: str) -> dict[str, Any]:
    return {
        f"p{percent:g}": {"value": part.percentile_s(percent, of=of), "interval": part.interval_s(percent, of=of)}
        for percent in PERCENTILES
    }


def _raw(run: Run) -> dict[str, Any]:
    server = run.server
    return {
        "options": run.options.to_dict(),
        "started": run.started,
        "stages": [dataclasses.asdict(stage) for stage in run.stages],
        "samples": encode(run.samples),
        "gauges": [dataclasses.astuple(gauge) for gauge in run.gauges],
        "server": {
            "name": server.name,
            "steps": _plain(server.steps),
            "stage_steps": [_plain(steps) for steps in server.stage_steps],
            "entries": dict(server.entries),
            "ensembles": sorted(server.ensembles),
            "readings": [[reading.time_s, dict(reading.values)] for reading in server.readings],
            "failures": [[*key, count] for key, count in server.failures.items()],
            "note": server.note,
        },
    }


def _plain(steps: Mapping[str, Step]) -> list[dict[str, Any]]:
    return [dataclasses.asdict(step) for step in steps.values()]


def _of_this_version(content: dict[str, Any]) -> dict[str, Any]:
    if content["schema"] != SCHEMA:
        raise ValueError(f"it was written by another version ({content['schema']!r})")
    raw: dict[str, Any] = content["raw"]
    return raw


def _run(raw: dict[str, Any]) -> Run:
    options = typed.record(Options, raw["options"])
    parse(options.slo)
    stages = tuple(typed.record(Stage, stage) for stage in raw["stages"])
    if not stages or not all(0 <= stage.start_s <= stage.end_s - _SHORTEST_S < _LONGEST_S for stage in stages):
        raise ValueError("it has no stages, or some without an end")
    return Run(
        options=options,
        started=typed.text(raw["started"]),
        stages=stages,
        samples=decode(raw["samples"], longest_s=_LONGEST_S),
        gauges=[_gauge(gauge) for gauge in raw["gauges"]],
        server=_server(raw["server"], len(stages)),
    )


def _gauge(values: list[Any]) -> Gauge:
    names = [field.name for field in dataclasses.fields(Gauge)]
    gauge = typed.record(Gauge, dict(zip(names, values, strict=True)))
    if gauge.rss_bytes < 1:
        raise ValueError("a generator without memory")
    return gauge


def _server(server: dict[str, Any], stages: int) -> ServerSide:
    if len(server["stage_steps"]) != stages:
        raise ValueError("the server's side has other stages")
    return ServerSide(
        name=typed.text(server["name"]),
        steps=_steps(server["steps"]),
        stage_steps=tuple(_steps(steps) for steps in server["stage_steps"]),
        entries=typed.texts(server["entries"]),
        ensembles=frozenset(typed.text(name) for name in server["ensembles"]),
        readings=tuple(Reading(typed.number(time_s), typed.numbers(values)) for time_s, values in server["readings"]),
        failures={(typed.text(model), typed.text(why)): typed.whole(n) for model, why, n in server["failures"]},
        note=typed.text(server["note"]),
    )


def _steps(steps: list[dict[str, Any]]) -> dict[str, Step]:
    read = [
        typed.record(Step, step, batch_sizes={int(size): typed.whole(n) for size, n in step["batch_sizes"].items()})
        for step in steps
    ]
    return {step.model: step for step in read}


def _finite(value: Any) -> Any:
    """JSON knows neither infinity nor NaN."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
