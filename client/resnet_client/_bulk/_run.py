"""One run from beginning to end, or from wherever the last start was stopped."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Literal

from resnet_client._bulk import _engines
from resnet_client._bulk._listing import units
from resnet_client._bulk._parts import Layout, layout
from resnet_client._bulk._places import root_of
from resnet_client._bulk._progress import Progress
from resnet_client._bulk._store import Store
from resnet_client.base import check_max_in_flight, check_top_k
from resnet_client.client import Client
from resnet_client.errors import ConfigurationError


@dataclasses.dataclass(frozen=True)
class Options:
    """What is to be done.

    Attributes:
        sources: folders, patterns, shards, Parquet files, URLs; at least one.
        output: a file that ends in ``.parquet``, or a folder for many; other suffixes promise another format.
        top_k: how many classes for each photo; None for features.
        column: that holds the photos of Parquet files; None finds it.
        engine: ``local`` or ``ray``.
        workers: processes that ask on a Ray cluster; None for one on each node.
        max_in_flight: photos under way at once, of each process that asks.
        part_size: rows that are written at once, and lost when the run is killed.
        patience_s: how long all servers may be away before the run gives up.
        restart: begin anew.
    """

    sources: tuple[str, ...]
    output: Path
    top_k: int | None = 5
    column: str | None = None
    engine: Literal["local", "ray"] = "local"
    workers: int | None = None
    max_in_flight: int = 16
    part_size: int = 1000
    patience_s: float = 300.0
    restart: bool = False

    def __post_init__(self) -> None:
        if re.search("[A-Za-z]", self.output.suffix.removesuffix(".parquet")) and not self.output.is_dir():
            raise ConfigurationError(
                f"--output must end in .parquet, or name a folder, without a suffix, not {self.output.name!r}"
            )
        check_max_in_flight(self.max_in_flight)
        if self.top_k is not None:
            check_top_k(self.top_k)
        for name in ("part_size", "workers"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise ConfigurationError(f"{name} must be at least 1, not {value}")


def run(client: Client, options: Options) -> Progress:
    """Work until there is one row for each photo.

    Returns:
        The counts: of the whole run, not of this start only.

    Raises:
        ConfigurationError: a source, an option or the output makes no sense.
        ServerError: the servers were away for too long; start again, and it goes on.
    """
    _check_installed(options.engine)
    rows = layout(client, options.top_k, options.part_size)
    config = client.config
    settings = {
        "sources": [root_of(source) + source for source in options.sources],
        "column": options.column,
        "model": config.model,
        "model_version": config.model_version,
        "preprocessing": config.preprocessing,
        **dataclasses.asdict(rows),
    }
    store = Store(options.output, settings)
    with store.held(restart=options.restart):
        if store.is_complete:
            progress = Progress(*store.counted(), total=None, was_complete=True)
        else:
            progress = _advance(client, options, rows, store)
            store.finish(rows.schema())
        store.discard_parts()
    return progress


def _advance(client: Client, options: Options, rows: Layout, store: Store) -> Progress:
    store.note_units(units(options.sources, options.column, options.part_size))
    progress = Progress(*store.counted(), store.total())
    plan = _engines.Plan(client.config, rows, options.max_in_flight, options.patience_s)
    with progress.shown():
        if options.engine == "ray":
            parts = _engines.on_ray(store.tasks(), plan, options.workers, progress)
        else:
            parts = _engines.local(store.tasks(), plan, client, progress)
        for part in parts:
            store.write(part)
    return progress


def _check_installed(engine: str) -> None:
    try:
        import fsspec  # noqa: F401
        import pyarrow as pa  # noqa: F401
    except ImportError as exc:
        raise ConfigurationError(f"bulk needs the extra: pip install 'resnet50-triton[bulk]' ({exc})") from exc
    if engine == "ray":
        _engines.check_ray()
