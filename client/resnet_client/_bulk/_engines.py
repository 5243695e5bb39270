"""Where tasks are worked on: in this process, or on the nodes of a Ray cluster; the work is the same."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from resnet_client._bulk._asking import Asker, Failure
from resnet_client._bulk._parts import Layout, Part
from resnet_client._bulk._units import Task
from resnet_client._bulk._work import parts
from resnet_client.client import Client
from resnet_client.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from resnet_client._bulk._asking import Answer
    from resnet_client._bulk._progress import Progress
    from resnet_client._bulk._reading import Photo
    from resnet_client.config import ClientConfig


@dataclasses.dataclass(frozen=True)
class Plan:
    """How the work is done, on whatever machine.

    Attributes:
        config: of the clients.
        layout: of the rows.
        max_in_flight: photos under way at once, of each process that asks.
        patience_s: how long the servers may be away.
    """

    config: ClientConfig
    layout: Layout
    max_in_flight: int
    patience_s: float

    def asker(self, client: Client) -> Asker:
        """Whoever asks the servers."""
        return Asker(client, self.layout.top_k, self.patience_s)

    def client(self) -> Client:
        """A client of the same servers."""
        options = {field.name: getattr(self.config, field.name) for field in dataclasses.fields(self.config)}
        return Client(**options)


def local(tasks: Iterable[Task], plan: Plan, client: Client, progress: Progress) -> Iterator[Part]:
    """Work on all tasks here."""
    asker = plan.asker(client)

    def ask(photo: Photo) -> Answer:
        answer = asker(photo)
        progress.add(1, int(isinstance(answer, Failure)))
        return answer

    try:
        yield from parts(tasks, ask, plan.layout, plan.max_in_flight)
    finally:
        asker.stop()


class Worker:
    """One process of the cluster, with a client of its own."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._client = plan.client()

    def __call__(self, batch: dict[str, Any]) -> Iterator[dict[str, list[Any]]]:
        """Work on the tasks of a batch; yields one row for each part."""
        tasks = (Task.from_json(str(line)) for line in batch["item"])
        asker = self._plan.asker(self._client)
        for part in parts(tasks, asker, self._plan.layout, self._plan.max_in_flight):
            row = {"unit": part.unit, "number": part.number, "is_last": part.is_last, "table": _packed(part.table)}
            yield {name: [value] for name, value in row.items()}


def check_ray() -> None:
    """Refuse to begin where Ray is not installed."""
    try:
        import ray.data  # noqa: F401
    except ImportError as exc:
        raise ConfigurationError("--engine ray needs the extra: pip install 'resnet50-triton[ray]'") from exc


def on_ray(tasks: Iterable[Task], plan: Plan, workers: int | None, progress: Progress) -> Iterator[Part]:
    """Work on tasks wherever Ray puts them: ``RAY_ADDRESS`` names a cluster, else one is started here.

    Args:
        tasks: what is left.
        plan: goes to every worker.
        workers: processes that ask; None for one on each node.
        progress: told of each part.
    """
    import ray
    import ray.data

    if not ray.is_initialized():
        ray.init(log_to_driver=False)
    ray.data.DataContext.get_current().enable_progress_bars = False
    lines = [task.to_json() for task in tasks]
    if not lines:
        return
    nodes = sum(node["Alive"] for node in ray.nodes())
    rows = ray.data.from_items(lines, override_num_blocks=len(lines)).map_batches(
        Worker,
        batch_size=1,
        concurrency=min(workers or nodes, len(lines)),
        fn_constructor_args=(plan,),
    )
    for row in rows.iter_rows():
        part = Part(int(row["unit"]), int(row["number"]), bool(row["is_last"]), _unpacked(row["table"]))
        progress.add(len(part.table), part.failed)
        yield part


def _packed(table: Any) -> bytes:
    import pyarrow as pa

    buffer = io.BytesIO()
    with pa.ipc.new_stream(buffer, table.schema) as writer:
        writer.write_table(table)
    return buffer.getvalue()


def _unpacked(content: bytes) -> Any:
    import pyarrow as pa

    return pa.ipc.open_stream(content).read_all()
