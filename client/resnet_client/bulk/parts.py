"""Classify or embed the images of units and collect the rows in parts, for every engine."""

from __future__ import annotations

import dataclasses
import functools
import io
import itertools
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from resnet_client.bulk.images import Image, read_images
from resnet_client.bulk.resume import part_name
from resnet_client.bulk.sources import Unit
from resnet_client.bulk.storage import Storage, UnreachableError
from resnet_client.client import Client
from resnet_client.errors import (
    ConfigurationError,
    ImageError,
    OverloadedError,
    RequestError,
    ServerError,
    UnavailableError,
)
from resnet_client.requests import FEATURES
from resnet_client.results import Classification

if TYPE_CHECKING:
    from resnet_client.bulk.run import Options

_FIRST_PAUSE_S = 0.1
_OWN_FAULT_S = 5.0
_LONGEST_PAUSE_S = 5.0
_OPEN_STORAGES = 16

_Send: TypeAlias = Callable[[Iterable[Any]], Iterator[Any]]


@dataclasses.dataclass(frozen=True)
class Part:
    """Rows of consecutive images of one unit.

    Attributes:
        name: of its file.
        rows: number of rows.
        failed: number of rows with an error.
        content: the rows, a Parquet file.
    """

    name: str
    rows: int
    failed: int
    content: bytes


def make_parts(
    client: Client,
    remaining: Iterable[tuple[int, Unit, int]],
    options: Options,
    schema: pa.Schema,
    count_rows: Callable[[int, int], None],
) -> Iterator[Part]:
    """Send all images in one stream, and yield each part when its last image is done.

    Args:
        client: sends the images.
        remaining: number of each unit, the unit, and how many of its parts are done.
        options: of the run.
        schema: of the rows.
        count_rows: called after each row with 1 and the number of errors, 0 or 1.

    Raises:
        ServerError: no server was available for ``options.unavailable_timeout_s``.
    """
    send: _Send = functools.partial(client.embed_many, max_in_flight=options.max_in_flight)
    if options.top_k is not None:
        send = functools.partial(client.classify_many, max_in_flight=options.max_in_flight, top_k=options.top_k)
    rows: list[dict[str, Any]] = []
    for outcome in send(_images(remaining, options.part_size)):
        rows.append(_row(_retry(client, send, outcome, options.unavailable_timeout_s), schema))
        count_rows(1, int(rows[-1]["error"] is not None))
        if name := outcome.source.ends_part:
            file = io.BytesIO()
            pq.write_table(pa.Table.from_pylist(rows, schema=schema), file, compression="zstd")
            yield Part(name, len(rows), sum(row["error"] is not None for row in rows), file.getvalue())
            rows.clear()


def make_schema(client: Client, top_k: int | None) -> pa.Schema:
    """The columns of the results; also checks that the model is served.

    Args:
        client: reads the length of the features from the server.
        top_k: number of classes; None for features.

    Raises:
        ServerError: the server does not answer, or does not serve the model.
        ConfigurationError: the model has no features.
    """
    outputs = client.metadata()["model"]["outputs"]
    columns = [("image", pa.string()), ("error", pa.string())]
    if top_k is not None:
        prediction = [("index", pa.int32()), ("label", pa.string()), ("probability", pa.float32())]
        predictions = [("predictions", pa.list_(pa.struct(prediction))), ("model_version", pa.string())]
        return pa.schema(columns + prediction + predictions)
    width = next((int(output["shape"][-1]) for output in outputs if output["name"] == FEATURES), 0)
    if width < 1:
        raise ConfigurationError(f"{client.config.model} has no output {FEATURES}")
    return pa.schema([*columns, ("features", pa.list_(pa.float32(), width))])


def _images(remaining: Iterable[tuple[int, Unit, int]], part_size: int) -> Iterator[Image]:
    storages = functools.lru_cache(_OPEN_STORAGES)(Storage)
    for unit_number, unit, parts_done in remaining:
        skip = parts_done * part_size
        images: Iterator[Any] = itertools.chain(read_images(unit, skip, storages), [None])
        for count, (image, following) in enumerate(itertools.pairwise(images), start=skip + 1):
            if following is None or count % part_size == 0:
                name = part_name(unit_number, (count - 1) // part_size, is_last=following is None)
                yield dataclasses.replace(image, ends_part=name)
            else:
                yield image


def _retry(client: Client, send: _Send, outcome: Any, timeout_s: float) -> Any:
    """Send an image again while servers are unavailable, overloaded or failing; other errors are written to its row."""
    started_s, pause_s = time.monotonic(), _FIRST_PAUSE_S
    while not outcome.ok and not isinstance(outcome.error, ImageError | RequestError):
        if not isinstance(outcome.error, ServerError):
            raise outcome.error
        waited_s = time.monotonic() - started_s
        is_own_fault = not isinstance(outcome.error, UnavailableError | OverloadedError)
        is_sent = not isinstance(outcome.error, UnreachableError)
        # If the model classifies a test image, this image is the cause of the failure, and must not block the others.
        if is_sent and (waited_s > timeout_s or (is_own_fault and waited_s > _OWN_FAULT_S)) and client.is_ready():
            break
        if waited_s > timeout_s:
            raise outcome.error
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
        (outcome,) = send([outcome.source])
    return outcome


def _row(outcome: Any, schema: pa.Schema) -> dict[str, Any]:
    row: dict[str, Any] = {"image": _unambiguous(outcome.source.row_name), "error": None}
    if outcome.error is not None:
        row["error"] = _utf8(str(outcome.error))
        if "features" in schema.names:
            row["features"] = np.full(schema.field("features").type.list_size, np.nan, np.float32)
    elif isinstance(outcome.result, Classification):
        row |= outcome.result.to_dict() | outcome.result.top.to_dict()
    else:
        row["features"] = outcome.result
    return row


def _unambiguous(name: str) -> str:
    r"""Like :func:`_utf8`, with ``\\`` for each backslash in a name that looks escaped, so that names stay distinct."""
    return _utf8(name.replace("\\", r"\\")) if r"\udc" in _utf8(name) else name


def _utf8(text: str) -> str:
    r"""Write bytes of file names that are not UTF-8 as ``\udcff``, like ``resnet-client classify``."""
    return text.encode(errors="backslashreplace").decode()
