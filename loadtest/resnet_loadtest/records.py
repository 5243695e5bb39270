"""Write and read runs and searches as JSON: the metrics, and every request, so that a run can be analysed again.

``pydantic`` serialises the dataclasses of a run. It refuses a damaged file or one of another version, and names the
place of the first error.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, TypeAdapter, ValidationError
from pydantic_core import to_json

from resnet_loadtest.analysis import Run
from resnet_loadtest.errors import UsageError
from resnet_loadtest.metrics import Metrics
from resnet_loadtest.samples import are_plausible
from resnet_loadtest.search import Result, Trial
from resnet_loadtest.workloads import addresses

_RUN, _SEARCH = "resnet-loadtest/3", "resnet-loadtest-search/2"
_PERCENTILES = (50.0, 90.0, 95.0, 99.0, 99.9)
_MAX_S = 31 * 86400.0
_MIN_STAGE_S = 1e-3
# Control characters, escaped or not: they can change a terminal, and XML cannot contain them.
_CONTROL = re.compile(rb"(?<!\\)(?:\\\\)*\\(?:u00[01]|u007f|u00[89]|[bfr])|\x7f|\xc2[\x80-\x9f]", re.IGNORECASE)


class _Header(BaseModel):
    schema_name: str = Field(alias="schema")


class _File(BaseModel):
    """The part of a file that is read; metrics are computed again from the samples."""

    raw: Run


def write(run: Run, path: Path) -> None:
    """Write a run to a file: times in seconds, shares from 0 to 1, infinite times as null."""
    document = {
        "schema": _RUN,
        "verdict": run.verdict.name,
        "warnings": run.warnings,
        "bottleneck": run.bottleneck,
        "objectives": [
            {"part": check.part, "objective": check.objective.text, "measured": check.measured, "is_met": check.is_met}
            for check in run.checks
        ],
        "whole": _metrics(run, run.whole),
        "stages": [_metrics(run, part) for part in run.parts],
        "memory_growth": run.memory_growth,
        "raw": TypeAdapter(Run).dump_python(run, mode="json"),
    }
    path.write_bytes(to_json(document, indent=1, inf_nan_mode="null") + b"\n")


def read(path: Path) -> Run:
    """Read what :func:`write` wrote.

    Raises:
        UsageError: it is not the report of a run, is damaged, or was written by another version.
        OSError: it cannot be read.
    """
    content = path.read_bytes()
    try:
        _check_schema(_Header.model_validate_json(content).schema_name)
        run = _File.model_validate_json(content).raw
        addresses(run.options.check())
        _check_plausible(run, content)
    except ValidationError as exc:
        first = exc.errors(include_url=False)[0]
        place = [".".join(map(str, first["loc"]))] if first["loc"] else []
        reason = ": ".join([*place, first["msg"].removeprefix("Value error, ")])
        raise UsageError(f"{path} is not the report of a run: {reason}") from exc
    except UsageError as exc:
        raise UsageError(f"{path} is not the report of a run: {exc}") from exc
    return run


def write_search(result: Result, path: Path) -> None:
    """Write a search to a file; times in seconds, infinite ones as null."""
    names = ("rate_per_s", "lower_per_s", "upper_per_s")
    document = {
        "schema": _SEARCH,
        "objective": result.options.slo,
        "found": dict(zip(names, result.found, strict=True)) if result.found else None,
        "warning": result.warning,
        "trials": [_trial(trial) for trial in result.trials],
        "options": result.options.to_dict() | {"rate": None},
    }
    path.write_bytes(to_json(document, indent=1, inf_nan_mode="null") + b"\n")


def _metrics(run: Run, part: Metrics) -> dict[str, Any]:
    in_flight = run.in_flight(part)
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
        "failures": {status.name.lower(): count for status, count in part.failures.items()},
        "response_s": _percentiles(part, "response"),
        "service_s": _percentiles(part, "service"),
        "mean_s": part.mean_s,
        "max_s": part.max_s,
        "late_p99_s": part.late_s(99),
        "generator_cpu": run.generator_cpu(part),
        "in_flight": in_flight and {"counted": in_flight[0], "by_littles_law": in_flight[1]},
    }


def _percentiles(part: Metrics, of: str) -> dict[str, Any]:
    return {
        f"p{percent:g}": {"value": part.percentile_s(percent, of=of), "interval": part.interval_s(percent, of=of)}
        for percent in _PERCENTILES
    }


def _trial(trial: Trial) -> dict[str, Any]:
    return {
        "repeat": trial.repeat,
        "rate_per_s": trial.rate,
        "verdict": trial.run.verdict.name,
        "warnings": trial.run.warnings,
        "measured": [check.measured for check in trial.run.checks],
        "whole": _metrics(trial.run, trial.run.whole),
    }


def _check_schema(schema: str) -> None:
    if schema.startswith("resnet-loadtest-search/"):
        raise UsageError("it is the report of a search (find-slo); expected the report of a run")
    if schema != _RUN:
        raise UsageError(f"it was written by another version ({schema!r} instead of {_RUN!r})")


def _check_plausible(run: Run, content: bytes) -> None:
    """Refuse data that no run can record."""
    stages = run.stages
    if not stages or len(stages) != len(run.server.stage_steps):
        raise UsageError("stages are missing")
    if not all(0 <= stage.start_s <= _MAX_S and _MIN_STAGE_S <= stage.duration_s <= _MAX_S for stage in stages):
        raise UsageError("a stage has an impossible time")
    if not are_plausible(run.samples, longest_s=2 * _MAX_S):
        raise UsageError("a sample has an impossible time or status")
    if any(each.rss_bytes < 1 for each in run.generator):
        raise UsageError("the memory of a generator is not positive")
    if _CONTROL.search(content):
        raise UsageError("a name contains control characters")
