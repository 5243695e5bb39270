"""Make parts on the nodes of a Ray cluster; each worker runs ``parts.py`` with its own client."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import resnet_command

from resnet_client.bulk.parts import Part, make_parts
from resnet_client.bulk.sources import Unit
from resnet_client.client import Client
from resnet_client.config import ClientConfig
from resnet_client.errors import ConfigurationError

if TYPE_CHECKING:
    from resnet_client.bulk.run import Options


class Worker:
    """One process of the cluster.

    Args:
        config: of its client.
        options: of the run.
        schema: of the rows.
        folder: base of relative names.
    """

    def __init__(self, config: ClientConfig, options: Options, schema: Any, folder: Path) -> None:
        if folder.is_dir():  # not needed on a node for images behind URLs
            os.chdir(folder)
        self._client, self._options, self._schema = Client(**dataclasses.asdict(config)), options, schema

    def __call__(self, batch: dict[str, Any]) -> Iterator[dict[str, list[Any]]]:
        """Make the parts of a batch of units; yields one row for each part."""
        remaining = ((number, Unit(**unit), done) for number, unit, done in map(json.loads, batch["item"]))
        for part in make_parts(self._client, remaining, self._options, self._schema, lambda *_: None):
            yield {name: [value] for name, value in dataclasses.asdict(part).items()}


def check_ray() -> None:
    """Fail before anything is written if Ray is not installed.

    Raises:
        ConfigurationError: Ray is not installed.
    """
    try:
        import ray.data  # noqa: F401
    except ImportError as exc:
        raise ConfigurationError(resnet_command.not_installed("ray", "ray")) from exc


def make_parts_on_ray(
    client: Client,
    remaining: Iterable[tuple[int, Unit, int]],
    options: Options,
    schema: Any,
    count_rows: Callable[[int, int], None],
) -> Iterator[Part]:
    """Like :func:`make_parts`, on the cluster in ``RAY_ADDRESS``, or else on a local one that it starts."""
    import ray.data

    tasks = [json.dumps((number, dataclasses.asdict(unit), done)) for number, unit, done in remaining]
    if not tasks:
        return
    if not ray.is_initialized():
        ray.init(log_to_driver=False)
    ray.data.DataContext.get_current().enable_progress_bars = False
    nodes = sum(node["Alive"] for node in ray.nodes())
    rows = ray.data.from_items(tasks, override_num_blocks=len(tasks)).map_batches(
        Worker,
        batch_size=1,
        concurrency=min(options.workers or nodes, len(tasks)),
        fn_constructor_args=(client.config, options, schema, Path.cwd()),
    )
    for row in rows.iter_rows():
        part = Part(**row)
        count_rows(part.rows, part.failed)
        yield part
