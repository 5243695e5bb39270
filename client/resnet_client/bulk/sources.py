"""List the units of work in the sources: folders, patterns, tar archives, Parquet files, URLs."""

from __future__ import annotations

import dataclasses
import glob
import hashlib
import itertools
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.utils import glob_translate

from resnet_client.bulk.storage import Storage, failure, split
from resnet_client.errors import ConfigurationError, ImageError, ResnetClientError
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
        names: paths of the images; of the one archive or Parquet file for the other kinds.
        count: number of images; None for an archive, whose images are counted only while reading.
        column: that holds the images of a Parquet file.
        row_group: number of the row group in its Parquet file.
        first_row: number of its first row in the file.
        storage: URL of the file system that has the names; empty for local files.
    """

    kind: _Kind
    names: list[str]
    count: int | None = None
    column: str = ""
    row_group: int = 0
    first_row: int = 0
    storage: str = ""


def find_units(sources: Iterable[str], column: str | None, files_per_unit: int) -> Iterator[Unit]:
    """All units of the sources in a stable order, each file once; with several sources, hashes of names are in memory.

    Args:
        sources: paths, patterns, ranges or URLs.
        column: that holds the images of Parquet files; None takes the only column of bytes.
        files_per_unit: number of image files in a unit.

    Raises:
        ConfigurationError: a source cannot be read, or has no images.
    """
    expanded = list(dict.fromkeys(itertools.chain.from_iterable(map(_expand_range, sources))))
    found: Iterator[tuple[str, str]] = itertools.chain.from_iterable(map(_find, expanded))
    if len(expanded) > 1:
        found = _distinct(found)
    for (kind, storage), group in itertools.groupby(found, key=lambda place: (kind_of(place[1]), place[0])):
        paths = (path for _, path in group)
        if kind == "parquet":
            yield from itertools.chain.from_iterable(_row_groups(storage, path, column) for path in paths)
        elif kind == "tar":
            yield from (Unit("tar", [path], storage=storage) for path in paths)
        else:
            while chunk := list(itertools.islice(paths, files_per_unit)):
                yield Unit("files", chunk, len(chunk), storage=storage)


def kind_of(path: str) -> _Kind | None:
    """The kind of unit that a file belongs to, by its suffix; None for other files."""
    return next((kind for kind, suffixes in _SUFFIXES.items() if path.lower().endswith(suffixes)), None)


def _expand_range(source: str) -> Iterator[str]:
    """Expand ``shard-{000..127}.tar``, WebDataset's notation."""
    if (found := _RANGE.search(source)) is None or os.path.lexists(source):
        yield source
        return
    first, last = found.groups()
    for number in range(int(first), int(last) + 1):
        yield from _expand_range(f"{source[: found.start()]}{number:0{len(first)}d}{source[found.end() :]}")


def _find(source: str) -> Iterator[tuple[str, str]]:
    """File system and path of the images and containers of one source."""
    url, path = split(source)
    found = _list_url(source, url, path) if url else _list_local(path)
    if (first := next(found, None)) is None:
        raise ConfigurationError(
            f"{source}: found no image, tar archive or Parquet file (recognised by their suffixes)"
        )
    return ((url, path) for path in itertools.chain([first], found))


def _list_url(source: str, url: str, path: str) -> Iterator[str]:
    try:
        return filter(kind_of, Storage(url).find(path, _ALL_SUFFIXES))
    except ResnetClientError:
        raise
    except Exception as exc:  # each file system of fsspec raises its own types
        raise failure(source, "listed", exc) from exc


def _list_local(source: str) -> Iterator[str]:
    """Like :func:`_list_url`; fsspec would stat every file."""
    if os.path.isdir(source):
        return walk(source, _ALL_SUFFIXES)
    if glob.has_magic(source) and not os.path.lexists(source):
        return _match(source)
    try:
        os.lstat(source)
    except (OSError, ValueError) as exc:  # ValueError: a null byte
        raise failure(source, "listed", exc) from exc
    return filter(kind_of, [source])


def _match(pattern: str) -> Iterator[str]:
    """Like ``glob``, but ``**`` does not follow links, and what cannot be listed is yielded as by ``walk``."""
    start, stars, _ = pattern.partition("**")
    parts = Path(start).parts
    for depth in (depth for depth, part in enumerate(parts) if glob.has_magic(part)):
        folders = glob.iglob(os.path.join(*parts[:depth])) if depth else ["."]
        yield from (folder for folder in folders if os.path.isdir(folder) and not _is_listable(folder))
    if not stars:
        yield from (path for path in sorted(glob.iglob(pattern)) if kind_of(path) and not os.path.isdir(path))
        return
    try:
        matches = re.compile(glob_translate(pattern)).match
    except ValueError as exc:
        raise failure(pattern, "listed", exc) from exc
    for folder in sorted(glob.iglob(start)) if start else ["."]:
        for path in walk(folder, _ALL_SUFFIXES):
            name = path if start else path.removeprefix("./")
            if matches(name) or os.path.isdir(path):
                yield name


def _is_listable(folder: str) -> bool:
    try:
        os.scandir(folder).close()
    except OSError:
        return False
    return True


def _distinct(found: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    seen: set[bytes] = set()
    for url, path in found:
        name = f"{url}\0{path}" if url else os.path.abspath(path)
        digest = hashlib.blake2b(os.fsencode(name), digest_size=16).digest()
        if digest not in seen:
            seen.add(digest)
            yield url, path


def _row_groups(url: str, path: str, column: str | None) -> Iterator[Unit]:
    storage = Storage(url)
    try:
        with storage.open(path) as stream:
            file = pq.ParquetFile(stream)
            column = _image_column(file.schema_arrow, storage.name(path), column)
            first_row = 0
            for number in range(file.num_row_groups):
                count = file.metadata.row_group(number).num_rows
                yield Unit("parquet", [path], count, column, number, first_row, url)
                first_row += count
    except ImageError as exc:
        raise ConfigurationError(str(exc)) from exc
    except (OSError, pa.ArrowInvalid) as exc:
        raise failure(storage.name(path), "read", exc) from exc


def _image_column(schema: pa.Schema, name: str, column: str | None) -> str:
    """The given column, or the only one of bytes or of Hugging Face's ``{bytes, path}``."""

    def holds_bytes(kind: Any) -> bool:
        if pa.types.is_struct(kind):
            return any(field.name == "bytes" for field in kind)
        return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))

    fitting = [field.name for field in schema if (holds_bytes(field.type) if column is None else field.name == column)]
    if len(fitting) != 1:
        raise ConfigurationError(f"{name}: set --column to the column of images, one of {', '.join(schema.names)}")
    return str(fitting[0])
