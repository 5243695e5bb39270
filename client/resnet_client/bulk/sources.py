"""List the units of work in the sources: folders, patterns, tar archives, Parquet files, URLs."""

from __future__ import annotations

import dataclasses
import glob
import itertools
import os
import re
from collections.abc import Iterable, Iterator
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from resnet_client.bulk.storage import failure, is_url, list_urls, open_file
from resnet_client.errors import ConfigurationError, ResnetClientError
from resnet_client.images import SUFFIXES, walk

_Kind = Literal["files", "tar", "parquet"]

_SUFFIXES: dict[_Kind, tuple[str, ...]] = {
    "files": tuple(SUFFIXES),
    "tar": (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz"),
    "parquet": (".parquet", ".pq"),
}
_ALL_SUFFIXES = tuple(itertools.chain.from_iterable(_SUFFIXES.values()))
_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")


@dataclasses.dataclass(frozen=True)
class Unit:
    """Images that are read in a fixed order.

    Attributes:
        kind: ``files``: each name is an image; ``tar``: an archive; ``parquet``: a row group.
        names: paths or URLs of the images; of the one archive or Parquet file for the other kinds.
        count: number of images; None for an archive, whose images are counted only while reading.
        column: that holds the images of a Parquet file.
        row_group: number of the row group in its Parquet file.
        first_row: number of its first row in the file.
    """

    kind: _Kind
    names: list[str]
    count: int | None = None
    column: str = ""
    row_group: int = 0
    first_row: int = 0


def find_units(sources: Iterable[str], column: str | None, files_per_unit: int) -> Iterator[Unit]:
    """All units of the sources in a stable order.

    Args:
        sources: paths, patterns, ranges or URLs.
        column: that holds the images of Parquet files; None takes the only column of bytes.
        files_per_unit: number of image files in a unit.

    Raises:
        ConfigurationError: a source cannot be read, or has no images.
    """
    expanded = itertools.chain.from_iterable(map(_expand_range, sources))
    names = itertools.chain.from_iterable(map(_find, expanded))
    for kind, group in itertools.groupby(names, key=kind_of):
        if kind == "parquet":
            yield from itertools.chain.from_iterable(_row_groups(name, column) for name in group)
        elif kind == "tar":
            yield from (Unit("tar", [name]) for name in group)
        else:
            while chunk := list(itertools.islice(group, files_per_unit)):
                yield Unit("files", chunk, len(chunk))


def kind_of(name: str) -> _Kind | None:
    """The kind of unit that a file belongs to, by its suffix; None for other files."""
    return next((kind for kind, suffixes in _SUFFIXES.items() if name.lower().endswith(suffixes)), None)


def _expand_range(source: str) -> Iterator[str]:
    """Expand ``shard-{000..127}.tar``, WebDataset's notation."""
    if (found := _RANGE.search(source)) is None or os.path.lexists(source):
        yield source
        return
    first, last = found.groups()
    for number in range(int(first), int(last) + 1):
        yield from _expand_range(f"{source[: found.start()]}{number:0{len(first)}d}{source[found.end() :]}")


def _find(source: str) -> Iterator[str]:
    """The images, archives and Parquet files of one source."""
    found: Iterator[str]
    if is_url(source):
        found = filter(kind_of, list_urls(source))
    elif os.path.isdir(source):
        found = walk(source, _ALL_SUFFIXES)
    elif os.path.lexists(source):
        found = filter(kind_of, [source])
    elif glob.has_magic(source):
        found = filter(kind_of, sorted(glob.iglob(source, recursive=True)))
    else:
        raise ConfigurationError(f"{source} cannot be read: there is no such file or folder")
    if (first := next(found, None)) is None:
        raise ConfigurationError(
            f"{source}: found no image, tar archive or Parquet file (recognised by their suffixes)"
        )
    return itertools.chain([first], found)


def _row_groups(name: str, column: str | None) -> Iterator[Unit]:
    try:
        with open_file(name) as stream:
            file = pq.ParquetFile(stream)
            column = _image_column(file.schema_arrow, name, column)
            first_row = 0
            for number in range(file.num_row_groups):
                count = file.metadata.row_group(number).num_rows
                yield Unit("parquet", [name], count, column, number, first_row)
                first_row += count
    except ResnetClientError as exc:
        raise ConfigurationError(str(exc)) from exc
    except (OSError, pa.ArrowInvalid) as exc:
        raise failure(name, exc) from exc


def _image_column(schema: pa.Schema, name: str, column: str | None) -> str:
    """The only column of bytes or of Hugging Face's ``{bytes, path}``, or the given one of them."""

    def holds_bytes(kind: Any) -> bool:
        if pa.types.is_struct(kind):
            return any(field.name == "bytes" for field in kind)
        return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))

    fitting = [field.name for field in schema if holds_bytes(field.type) and column in (None, field.name)]
    if len(fitting) != 1:
        raise ConfigurationError(f"{name}: set --column to the column of bytes, one of {', '.join(schema.names)}")
    return str(fitting[0])
