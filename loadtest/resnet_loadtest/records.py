"""Write and read runs and searches as JSON: the metrics, and every request, so that a run can be analysed again.

``pydantic`` serialises the dataclasses of a run. It refuses a damaged file or one of another version, and names the
place of the first error.
"""

from __future__ import annotations

import contextlib
import dataclasses
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, Field, TypeAdapter, ValidationError
from pydantic_core import to_json

from resnet_loadtest.analysis import Check, Ending, Run
from resnet_loadtest.errors import UsageError
from resnet_loadtest.metrics import Metrics
from resnet_loadtest.samples import merged
from resnet_loadtest.search import Result, Trial

PARTIAL_SUFFIX = ".partial"
_RUN, _SEARCH = "resnet-loadtest/5", "resnet-loadtest-search/3"
_PERCENTILES = (50.0, 90.0, 95.0, 99.0, 99.9)

_ADAPTER = TypeAdapter(Run)


class _File(BaseModel):
    """The part of a file that is read; metrics are computed again from the samples."""

    schema_name: Literal["resnet-loadtest/5"] = Field(alias="schema")
    raw: Run


def write(run: Run, path: Path) -> None:
    """Write a run to a file: times in seconds, shares from 0 to 1, infinite times as null."""
    document = {
        "schema": _RUN,
        "verdict": run.verdict.name,
        "ended": run.ended and run.ended.reason,
        "warnings": run.warnings,
        "bottleneck": run.bottleneck,
        "objectives": [_check(check) for check in run.checks],
        "whole": _metrics(run, run.whole),
        "stages": [_metrics(run, part) for part in run.parts],
        "raw": _ADAPTER.dump_python(run, mode="json"),
    }
    path.write_bytes(to_json(document, indent=1, inf_nan_mode="null") + b"\n")


def read(path: Path) -> Run:
    """Read what :func:`write` or a :class:`Recorder` wrote.

    Raises:
        UsageError: it is not the report of a run, is damaged, or was written by another version.
        OSError: it cannot be read.
    """
    try:
        return _parsed(path.read_bytes(), is_partial=path.suffix == PARTIAL_SUFFIX)
    except ValidationError as exc:
        first = exc.errors(include_url=False)[0]
        reason = ": ".join([*([".".join(map(str, first["loc"]))] if first["loc"] else []), first["msg"]])
        raise UsageError(f"{path} is not the report of a run by this version: {reason}") from exc
    except UsageError as exc:
        raise UsageError(f"{path} is not the report of a run: {exc}") from exc


class Recorder:
    """Appends to a file what a run measures, so that a killed run can be reported: one JSON object a line.

    While the disk is full, the lines wait in memory.
    """

    def __init__(self, path: Path) -> None:
        """Create the file and its folder.

        Raises:
            UsageError: the file exists.
            OSError: it cannot be created.
        """
        self.path = path
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
        self._pending += to_json({"schema": _RUN, "raw": _ADAPTER.dump_python(run, mode="json")}) + b"\n"
        with contextlib.suppress(OSError):  # the next call writes the lines again
            self._file.seek(self._size)
            if self._file.write(self._pending) == len(self._pending):
                self._size, self._pending = self._file.tell(), b""

    @property
    def is_empty(self) -> bool:
        """Whether the file contains nothing that could be reported."""
        return not self._size

    def delete(self) -> None:
        """Delete the file, because there is a report or nothing was measured."""
        self._file.close()
        self.path.unlink(missing_ok=True)


def _parsed(content: bytes, *, is_partial: bool) -> Run:
    """A run, or the one that a :class:`Recorder` wrote in parts."""
    if not is_partial:
        return _File.model_validate_json(content).raw
    # The last line may be incomplete.
    parts = [_File.model_validate_json(line).raw for line in content.split(b"\n")[:-1]]
    if not parts:
        raise UsageError("it contains no samples: the load test was killed in its first second")
    last = parts[-1]
    readings = tuple(reading for part in parts for reading in part.server.readings)
    return dataclasses.replace(
        last,
        samples=merged(part.samples for part in parts),
        generator=[each for part in parts for each in part.generator],
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
        "trials": [_trial(trial) for trial in result.trials],
        "options": result.options.to_dict() | {"rate": None},
    }
    path.write_bytes(to_json(document, indent=1, inf_nan_mode="null") + b"\n")


def _trial(trial: Trial) -> dict[str, Any]:
    return {
        "repeat": trial.repeat,
        "rate_per_s": trial.rate,
        "verdict": trial.run.verdict.name,
        "reason": trial.reason,
        "measured": [check.measured for check in trial.run.checks],
        "whole": _metrics(trial.run, trial.run.whole),
    }


def _check(check: Check) -> dict[str, Any]:
    outcome = {"measured": check.measured, "verdict": check.verdict.name}
    return {"part": check.part, "objective": check.objective.text, **outcome}


def _metrics(run: Run, part: Metrics) -> dict[str, Any]:
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
        "in_flight": part.in_flight,
    }


def _percentiles(part: Metrics, of: str) -> dict[str, Any]:
    return {
        f"p{percent:g}": {"value": part.percentile_s(percent, of), "interval": part.interval_s(percent, of)}
        for percent in _PERCENTILES
    }
