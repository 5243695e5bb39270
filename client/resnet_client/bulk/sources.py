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

import fsspec.core
import pyarrow as pa
import pyarrow.parquet as pq

from resnet_client.errors import ConfigurationError
from resnet_client.images import SUFFIXES

_Kind = Literal["files", "tar", "parquet"]

_SUFFIXES: dict[_Kind, tuple[str, ...]] = {
    "files": tuple(SUFFIXES),
    "tar": (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz"),
    "parquet": (".parquet", ".pq"),
}
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
    """All units of the sources in a stable order, each file once; with several sources, hashes of names are in memory.

    Args:
        sources: paths, patterns, ranges or URLs.
        column: that holds the images of Parquet files; None takes the only column of bytes.
        files_per_unit: number of image files in a unit.

    Raises:
        ConfigurationError: a source cannot be read, or has no images.
    """
    expanded = list(dict.fromkeys(itertools.chain.from_iterable(map(_expand_range, sources))))
    names: Iterator[str] = itertools.chain.from_iterable(map(_find, expanded))
    if len(expanded) > 1:
        names = _distinct(names)
    for kind, group in itertools.groupby(names, key=kind_of):
        if kind == "parquet":
            yield from itertools.chain.from_iterable(_row_groups(name, column) for name in group)
        elif kind == "tar":
            yield from (Unit("tar", [name]) for name in group)
        else:
            while chunk := list(itertools.islice(group, files_per_unit)):
                yield Unit("files", chunk, len(chunk))


def locate(name: str) -> tuple[Any, str]:
    """The fsspec file system of a path or URL, and the path in that file system.

    Raises:
        ConfigurationError: no installed package supports the protocol, or access is denied.
    """
    if not is_url(name):
        return fsspec.filesystem("file"), os.path.abspath(name)  # noqa: PTH100  # millions of names
    try:
        filesystem, path = fsspec.core.url_to_fs(name)
    except (ImportError, ValueError, OSError) as exc:  # the message of ImportError names the package
        raise ConfigurationError(f"{name} cannot be opened: {reason(exc)}") from exc
    return filesystem, path


def is_url(name: str) -> bool:
    """Whether a name is a URL of fsspec, such as ``s3://bucket/folder`` or ``zip://*.jpg::images.zip``."""
    return "://" in name


def kind_of(name: str) -> _Kind | None:
    """The kind of unit that a file belongs to, by its suffix; None for other files."""
    path = (name.split("::", 1)[0] if is_url(name) else name).lower()
    return next((kind for kind, suffixes in _SUFFIXES.items() if path.endswith(suffixes)), None)


def reason(error: Exception) -> str:
    """Why a file system failed."""
    return str(getattr(error, "strerror", None) or error or type(error).__name__)


def _expand_range(source: str) -> Iterator[str]:
    """Expand ``shard-{000..127}.tar``, WebDataset's notation."""
    if (found := _RANGE.search(source)) is None:
        yield source
        return
    first, last = found.groups()
    for number in range(int(first), int(last) + 1):
        yield from _expand_range(f"{source[: found.start()]}{number:0{len(first)}d}{source[found.end() :]}")


def _find(source: str) -> Iterator[str]:
    """Names of the images and containers of one source."""
    count = 0
    try:
        for name in filter(kind_of, _list_url(source) if is_url(source) else _list_local(source)):
            yield name
            count += 1
    except ConfigurationError:
        raise
    except Exception as exc:  # each file system of fsspec raises its own types
        raise ConfigurationError(f"{source} cannot be listed: {reason(exc)}") from exc
    if not count:
        raise ConfigurationError(
            f"{source}: found no image, tar archive or Parquet file (recognised by their suffixes)"
        )


def _list_local(source: str) -> Iterator[str]:
    """Like :func:`_list_url`; fsspec would stat every file."""
    if glob.has_magic(source) and not os.path.lexists(source):
        found = sorted(glob.iglob(source, recursive=True))  # noqa: PTH207  # the names begin as the source does
        yield from (path for path in found if not Path(path).is_dir())
    elif Path(source).is_dir():
        yield from _files(os.walk(source))
    elif os.path.lexists(source):
        yield source
    else:
        raise ConfigurationError(f"{source}: there is no such file or folder")


def _list_url(source: str) -> Iterator[str]:
    filesystem, path = locate(source)
    paths: Iterator[str]
    if glob.has_magic(path):
        found = filesystem.glob(path, detail=True)
        paths = (path for path in sorted(found) if found[path]["type"] != "directory")
    elif filesystem.isdir(path):
        paths = _files(filesystem.walk(path))
    else:
        yield source
        return
    _, separator, archive = source.partition("::")
    yield from (f"{filesystem.unstrip_protocol(path)}{separator}{archive}" for path in paths)


def _files(walk: Iterable[tuple[str, list[str], list[str]]]) -> Iterator[str]:
    for folder, subfolders, names in walk:
        subfolders.sort()  # the walk continues in this order
        yield from (os.path.join(folder, name) for name in sorted(names))  # noqa: PTH118  # millions of names


def _distinct(names: Iterable[str]) -> Iterator[str]:
    seen: set[bytes] = set()
    for name in names:
        path = name if is_url(name) else os.path.abspath(name)  # noqa: PTH100  # millions of names
        digest = hashlib.blake2b(os.fsencode(path), digest_size=16).digest()
        if digest not in seen:
            seen.add(digest)
            yield name


def _row_groups(name: str, column: str | None) -> Iterator[Unit]:
    filesystem, path = locate(name)
    try:
        with filesystem.open(path, "rb") as stream:
            file = pq.ParquetFile(stream)
            column = _image_column(file.schema_arrow, name, column)
            first_row = 0
            for number in range(file.num_row_groups):
                count = file.metadata.row_group(number).num_rows
                yield Unit("parquet", [name], count, column, number, first_row)
                first_row += count
    except (OSError, pa.ArrowInvalid) as exc:
        raise ConfigurationError(f"{name} cannot be read: {reason(exc)}") from exc


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
