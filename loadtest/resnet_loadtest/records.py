"""Write and read runs and searches as JSON: the metrics, and every request, so that a run can be analysed again.

``pydantic`` serialises the dataclasses of a run. It refuses a damaged file or one of another version, and names the
place of the first error.
"""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, TypeAdapter, ValidationError
from pydantic_core import to_json

from resnet_loadtest.analysis import Check, Ending, Run
from resnet_loadtest.errors import UsageError
from resnet_loadtest.metrics import Metrics
from resnet_loadtest.samples import are_plausible, merged
from resnet_loadtest.search import Result, Trial
from resnet_loadtest.workloads import addresses

PARTIAL_SUFFIX = ".partial"
_RUN, _PARTIAL, _SEARCH = "resnet-loadtest/3", "resnet-loadtest-partial/1", "resnet-loadtest-search/2"
_PERCENTILES = (50.0, 90.0, 95.0, 99.0, 99.9)
_MAX_S = 31 * 86400.0
_MIN_STAGE_S = 1e-3
# Control characters, escaped or not: they can change a terminal, and XML cannot contain them.
_CONTROL = re.compile(rb"(?<!\\)(?:\\\\)*\\(?:u00[01]|u007f|u00[89]|[bfr])|\x7f|\xc2[\x80-\x9f]", re.IGNORECASE)


_ADAPTER = TypeAdapter(Run)


class _Header(BaseModel):
    schema_name: str = Field(alias="schema")


class _Partial(BaseModel):
    raw: dict[str, Any]


class _File(BaseModel):
    """The part of a file that is read; metrics are computed again from the samples."""

    raw: Run


def write(run: Run, path: Path) -> None:
    """Write a run to a file: times in seconds, shares from 0 to 1, infinite times as null."""
    document = {
        "schema": _RUN,
        "verdict": run.verdict.name,
        "ended": run.ended and run.ended.reason,
        "warnings": [str(finding) for finding in run.findings],
        "bottleneck": run.bottleneck,
        "objectives": [_check(check) for check in run.checks],
        "whole": _metrics(run, run.whole),
        "stages": [_metrics(run, part) for part in run.parts],
        "memory_growth": run.memory_growth,
        "raw": _ADAPTER.dump_python(run, mode="json"),
    }
    path.write_bytes(to_json(document, indent=1, inf_nan_mode="null") + b"\n")


def read(path: Path) -> Run:
    """Read what :func:`write` or a :class:`Recorder` wrote.

    Raises:
        UsageError: it is not the report of a run, is damaged, or was written by another version.
        OSError: it cannot be read.
    """
    content = path.read_bytes()
    try:
        is_partial = path.suffix == PARTIAL_SUFFIX
        header = content.partition(b"\n")[0] or b"{}" if is_partial else content
        _check_schema(_Header.model_validate_json(header).schema_name, _PARTIAL if is_partial else _RUN)
        run = _joined(content) if is_partial else _File.model_validate_json(content).raw
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


class Recorder:
    """Appends to a file what a run measures, so that a killed run can be reported: one JSON object a line.

    The first line is a run, the others are its changes. While the disk is full, the lines wait in memory.
    """

    def __init__(self, path: Path) -> None:
        """Create the file and its folder.

        Raises:
            UsageError: the file exists.
            OSError: it cannot be created.
        """
        self.path = path
        self.failure = ""
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._file = path.open("xb", buffering=0)
        except FileExistsError as exc:
            raise UsageError(
                f"{path} exists: a run of this name was killed or is still running; `resnet-loadtest report {path}` "
                "reports it. Delete the file, or choose another --name"
            ) from exc
        self._size, self._pending = 0, b""

    def append(self, run: Run) -> None:
        """Write what was measured since the last call."""
        exclude = {"options", "started"} if self._size or self._pending else set()
        document = _ADAPTER.dump_python(run, mode="json", exclude=exclude)
        self._pending += to_json({"schema": _PARTIAL, "raw": document}) + b"\n"
        try:
            self._file.seek(self._size)
            written = self._file.write(self._pending)
        except OSError as exc:
            self.failure = str(exc)
            return
        if written == len(self._pending):  # else the disk is full, and the next call writes the lines again
            self._size, self._pending, self.failure = self._size + written, b"", ""

    @property
    def is_empty(self) -> bool:
        """Whether the file contains nothing that could be reported."""
        return not self._size

    def delete(self) -> None:
        """Delete the file, because there is a report or nothing was measured."""
        self._file.close()
        self.path.unlink(missing_ok=True)


def _joined(content: bytes) -> Run:
    """The run that a :class:`Recorder` wrote, but for an incomplete last line."""
    lines = [_Partial.model_validate_json(line).raw for line in content.split(b"\n")[:-1]]
    if not lines:
        raise UsageError("it contains no samples: the load test was killed in its first second")
    parts = [_File.model_validate_json(to_json({"raw": lines[0] | line})).raw for line in lines]
    last = parts[-1]
    readings = tuple(reading for part in parts for reading in part.server.readings)
    return dataclasses.replace(
        last,
        samples=merged(part.samples for part in parts),
        generator=sorted((each for part in parts for each in part.generator), key=lambda each: each.time_s),
        server=dataclasses.replace(last.server, readings=readings),
        ended=Ending("INTERRUPTED", f"the load test was killed, or is still running, after {last.whole.end_s:.0f} s"),
    )


def write_search(result: Result, path: Path) -> None:
    """Write a search to a file; times in seconds, infinite ones as null."""
    names = ("rate_per_s", "lower_per_s", "upper_per_s")
    document = {
        "schema": _SEARCH,
        "objective": result.options.slo,
        "found": dict(zip(names, result.found, strict=True)) if result.found else None,
        "warning": result.warning,
        "target_rate_per_s": result.target_rate,
        "servers": result.servers,
        "trials": [_trial(trial) for trial in result.trials],
        "options": result.options.to_dict() | {"rate": None},
    }
    path.write_bytes(to_json(document, indent=1, inf_nan_mode="null") + b"\n")


def _check(check: Check) -> dict[str, Any]:
    outcome = {"measured": check.measured, "verdict": check.verdict.name}
    return {"part": check.part, "objective": check.objective.text, **outcome}


def _metrics(run: Run, part: Metrics) -> dict[str, Any]:
    in_flight = run.in_flight(part)
    return {
        "name": part.name,
        "start_s": part.start_s,
        "duration_s": part.duration_s,
        "verdict": run.verdict_of(part).name,
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
        "reason": trial.reason,
        "warnings": [str(finding) for finding in trial.run.findings],
        "measured": [check.measured for check in trial.run.checks],
        "whole": _metrics(trial.run, trial.run.whole),
    }


def _check_schema(schema: str, expected: str) -> None:
    if schema.startswith("resnet-loadtest-search/"):
        raise UsageError("it is the report of a search (find-slo); expected the report of a run")
    if schema != expected:
        raise UsageError(f"it was written by another version ({schema!r} instead of {expected!r})")


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
