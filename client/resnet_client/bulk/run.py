"""Run a bulk run: from options to complete output."""

from __future__ import annotations

import dataclasses
import datetime
import os
import re
import sys
import time
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
from rich.progress import Progress as Bar

from resnet_client.bulk import parts, ray_engine, sources
from resnet_client.bulk.resume import RunState
from resnet_client.bulk.storage import is_url
from resnet_client.client import Client
from resnet_client.errors import ConfigurationError
from resnet_client.printing import warn

_INVENTORY_VERSION = 2
_LOG_INTERVAL_S = 30.0


@dataclasses.dataclass(frozen=True)
class Options:
    """Options of a bulk run.

    Attributes:
        sources: folders, patterns, tar archives, Parquet files or URLs; at least one.
        output: a file that ends in ``.parquet``, or a folder for many files.
        top_k: number of classes for each image; None for features.
        column: column of Parquet files that holds the images; None finds it.
        engine: ``local`` or ``ray``.
        workers: number of processes on a Ray cluster; None for one on each node.
        max_in_flight: number of images in flight, in each process.
        part_size: number of rows in each part file; an interrupted run loses at most the parts in progress.
        unavailable_timeout_s: how long all servers may be unavailable before the run ends, in seconds.
        restart: discard an earlier run instead of resuming it.

    Raises:
        ConfigurationError: the output has the suffix of another format.
    """

    sources: tuple[str, ...]
    output: Path
    top_k: int | None = 5
    column: str | None = None
    engine: Literal["local", "ray"] = "local"
    workers: int | None = None
    max_in_flight: int = 16
    part_size: int = 1000
    unavailable_timeout_s: float = 300.0
    restart: bool = False

    def __post_init__(self) -> None:
        if re.search("[A-Za-z]", self.output.suffix.removesuffix(".parquet")) and not self.output.is_dir():
            raise ConfigurationError(
                f"invalid --output {self.output.name!r}: expected FILE.parquet or a folder without a suffix"
            )


class Progress:
    """Shows the rows of the run, those of earlier starts included: a bar on a terminal, else a line every 30 seconds.

    Args:
        rows: number of rows of earlier starts.
        failed: number of those with an error.
        total: number of images of the run; None if it is not known.
    """

    def __init__(self, rows: int, failed: int, total: int | None) -> None:
        self.rows, self.failed = rows, failed
        self._earlier_rows, self._total = rows, total
        self._started_s = self._logged_s = time.monotonic()
        columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"))
        self.bar = Bar(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty())
        self._task = self.bar.add_task("", total=total, completed=rows)

    def add(self, rows: int, failed: int) -> None:
        """Count more rows."""
        self.rows += rows
        self.failed += failed
        self.bar.update(self._task, completed=self.rows, description=self.status())
        if self.bar.disable and time.monotonic() - self._logged_s > _LOG_INTERVAL_S:
            self._logged_s = time.monotonic()
            total = "" if self._total is None else f" of {self._total:,}"
            warn(f"resnet-client: {self.rows:,}{total} images, {self.status()}")

    def status(self) -> str:
        """Errors, rate and time left."""
        rate = (self.rows - self._earlier_rows) / max(time.monotonic() - self._started_s, 1e-9)
        text = f"{self.failed:,} failed, {rate:,.1f}/s"
        if self._total is None or self.rows >= self._total or not rate:
            return text
        return f"{text}, {datetime.timedelta(seconds=round((self._total - self.rows) / rate))} left"


def run_bulk(client: Client, options: Options) -> tuple[str, int]:
    """Classify or embed all images of the sources; an interrupted run resumes.

    Returns:
        A summary, and the number of rows with an error, earlier starts included.

    Raises:
        ConfigurationError: a source, an option or the output is invalid.
        ServerError: the servers were unavailable for too long; start again to resume.
    """
    if options.engine == "ray":
        ray_engine.check_ray()
    schema = parts.make_schema(client, options.top_k)
    settings = {name: getattr(options, name) for name in ("column", "top_k", "part_size")}
    settings |= {name: getattr(client.config, name) for name in ("model", "model_version", "preprocessing")}
    settings["sources"] = [name if is_url(name) else os.path.abspath(name) for name in options.sources]  # noqa: PTH100  # as text
    settings["inventory"] = _INVENTORY_VERSION
    settings["width"] = 0 if options.top_k else schema.field("features").type.list_size
    state = RunState(options.output, settings, restart=options.restart)
    with state.locked():
        if state.is_complete:
            rows, failed = state.rows()
            summary = f"{rows:,} images, {failed:,} failed; already complete; use --restart to run it again"
        else:
            progress = _make_parts(client, options, schema, state)
            state.finish(schema)
            summary, failed = f"{progress.rows:,} images, {progress.status()}", progress.failed
        state.remove_parts()
    return summary, failed


def _make_parts(client: Client, options: Options, schema: Any, state: RunState) -> Progress:
    state.save_inventory(sources.find_units(options.sources, options.column, options.part_size))
    progress = Progress(*state.rows(), state.total())
    make_parts = ray_engine.make_parts_on_ray if options.engine == "ray" else parts.make_parts
    with progress.bar:
        for part in make_parts(client, state.remaining(), options, schema, progress.add):
            state.write_part(part.name, part.content)
    return progress
