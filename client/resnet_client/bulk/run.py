"""Run a bulk run: from options to complete output."""

from __future__ import annotations

import dataclasses
import os
import sys
import time
from pathlib import Path
from typing import Any, Literal

from resnet_client.bulk import parts, ray_engine, sources
from resnet_client.bulk.resume import RunState
from resnet_client.bulk.storage import is_url
from resnet_client.client import Client
from resnet_client.errors import ConfigurationError
from resnet_client.printing import warn
from resnet_client.progress import bar

_INVENTORY_VERSION = 3
_LOG_INTERVAL_S = 30.0


@dataclasses.dataclass(frozen=True)
class Options:
    """Options of a bulk run.

    Attributes:
        sources: folders, patterns, tar archives, Parquet files or URLs; at least one.
        output: a file that ends in ``.parquet``, or a folder for many files.
        top_k: number of classes for each image, at least 1; None for features.
        column: column of Parquet files that holds the images; None finds it.
        engine: ``local`` or ``ray``.
        workers: number of processes on a Ray cluster; None for one on each node.
        max_in_flight: number of images in flight, in each process.
        part_size: number of rows in each part file, at least 1; an interrupted run loses at most the parts in progress.
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
        if self.output.suffix not in ("", ".parquet") and not self.output.is_dir():
            raise ConfigurationError(
                f"invalid --output {self.output.name!r}: expected FILE.parquet or a folder without a suffix"
            )


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
            (rows, failed), rest = state.rows(), "already complete; use --restart to run it again"
        else:
            rows, failed, rate = _make_parts(client, options, schema, state)
            state.finish(schema)
            rest = f"{rate:,.1f}/s"
        state.remove_parts()
    return f"{rows:,} images, {failed:,} failed, {rest}", failed


def _make_parts(client: Client, options: Options, schema: Any, state: RunState) -> tuple[int, int, float]:
    """Make the missing parts.

    Returns:
        The number of rows, and of those with an error, earlier starts included; rows per second of this start.
    """
    state.save_inventory(sources.find_units(options.sources, options.column, options.part_size))
    rows, failed = state.rows()
    earlier_rows, total = rows, state.total()
    make_parts = ray_engine.make_parts_on_ray if options.engine == "ray" else parts.make_parts
    is_terminal, started_s = sys.stderr.isatty(), time.monotonic()
    logged_s = started_s
    with bar(total, shown=is_terminal, images=rows, failed=failed) as advance:
        for part in make_parts(client, state.remaining(), options, schema, advance):
            state.write_part(part.name, part.content)
            rows, failed = rows + part.rows, failed + part.failed
            if not is_terminal and time.monotonic() - logged_s > _LOG_INTERVAL_S:
                logged_s = time.monotonic()
                warn(f"resnet-client: {rows:,}{'' if total is None else f' of {total:,}'} images, {failed:,} failed")
    return rows, failed, (rows - earlier_rows) / (time.monotonic() - started_s)
