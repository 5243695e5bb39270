"""From what the caller names to units: folders, patterns, shards, Parquet files, here or behind a URL."""

from __future__ import annotations

import hashlib
import itertools
import os
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from resnet_client._bulk._places import filesystem_of, is_url, name_of, path_in, root_of, with_ranges
from resnet_client._bulk._units import Unit
from resnet_client.errors import ConfigurationError
from resnet_client.images import SUFFIXES

TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
PARQUET_SUFFIXES = (".parquet", ".pq")
_PATTERN = frozenset("*?[")


def units(sources: Iterable[str], column: str | None, files_per_unit: int) -> Iterator[Unit]:
    """All units of the sources, in a stable order; no file comes twice. Nothing is kept in memory.

    Args:
        sources: paths, patterns, ranges or URLs.
        column: that holds the photos of Parquet files; None finds the only one that can.
        files_per_unit: how many photos that are files of their own make a unit.

    Raises:
        ConfigurationError: a source cannot be read, or there is nothing there.
    """
    written_out = list(dict.fromkeys(itertools.chain.from_iterable(map(with_ranges, sources))))
    found: Iterator[tuple[str, str]] = (entry for source in written_out for entry in _found(source))
    if len(written_out) > 1:  # one source alone names nothing twice
        found = _once(found)
    for (root, is_photo), group in itertools.groupby(found, key=lambda entry: (entry[0], is_photo_name(entry[1]))):
        names = (name for _, name in group)
        if not is_photo:
            for name in names:
                yield from _container(root, name, column)
            continue
        while chunk := tuple(itertools.islice(names, files_per_unit)):
            yield Unit("files", root, chunk, count=len(chunk))


def is_photo_name(name: str) -> bool:
    """Whether the suffix is a photo's; behind a URL it ends before ``::``."""
    return Path(name.split("::", 1)[0]).suffix.lower() in SUFFIXES


def _is_wanted(name: str) -> bool:
    return is_photo_name(name) or name.split("::", 1)[0].lower().endswith(TAR_SUFFIXES + PARQUET_SUFFIXES)


def _once(found: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    seen: set[bytes] = set()
    for root, name in found:
        digest = hashlib.blake2b(os.fsencode(os.path.normpath(root + name)), digest_size=16).digest()
        if digest not in seen:
            seen.add(digest)
            yield root, name


def _found(source: str) -> Iterator[tuple[str, str]]:
    """Root and name of each file that a source stands for."""
    root = root_of(source)
    names = _behind_url(source) if is_url(source) else _here(source)
    first = next(names, None)
    if first is None:
        raise ConfigurationError(f"there is no photo in {source}")
    yield root, first
    for name in names:
        yield root, name


def _here(source: str) -> Iterator[str]:
    path = Path(source)
    if path.is_dir():
        for folder, subfolders, files in os.walk(path):
            subfolders.sort()
            yield from (os.path.join(folder, name) for name in sorted(files) if _is_wanted(name))  # noqa: PTH118  # fast
    elif path.exists() or not _PATTERN.intersection(source):
        yield _taken(source)
    else:
        yield from _matching(source)


def _behind_url(source: str) -> Iterator[str]:
    path = path_in("", source)
    filesystem = filesystem_of(source)
    if _PATTERN.intersection(path):
        yield from _matching(source)
    elif filesystem.isdir(path):
        for folder, subfolders, names in filesystem.walk(path):
            subfolders.sort()  # fsspec walks on in this order
            for name in sorted(names):
                if _is_wanted(name):
                    yield name_of(filesystem, f"{folder}/{name}", source)
    else:
        yield _taken(source)


def _matching(source: str) -> Iterator[str]:
    filesystem = filesystem_of(source)
    pattern = path_in(root_of(source), source)
    entries: dict[str, Any] = filesystem.glob(pattern, detail=True)
    for path in sorted(entries):
        if entries[path]["type"] != "directory" and _is_wanted(path):
            yield name_of(filesystem, path, source)


def _taken(source: str) -> str:
    if _is_wanted(source):
        return source
    raise ConfigurationError(
        f"{source}: no folder, and by its suffix no photo, no tar shard ({', '.join(TAR_SUFFIXES)}) and no Parquet file"
    )


def _container(root: str, name: str, column: str | None) -> Iterator[Unit]:
    path = path_in(root, name)
    filesystem = filesystem_of(name)
    try:
        if path.lower().endswith(PARQUET_SUFFIXES):
            yield from _row_groups(filesystem, root, name, column)
        else:
            yield Unit("tar", root, (name,), count=None if is_url(name) else _counted(Path(path)))
    except OSError as exc:
        raise ConfigurationError(f"{name} cannot be read: {exc.strerror or exc}") from exc


def _counted(path: Path) -> int | None:
    """Photos in a shard, for the time left: cheap where its headers can be skipped through."""
    if path.suffix.lower() != ".tar":
        return None
    try:
        with tarfile.open(path, "r:") as archive:
            return sum(member.isfile() and is_photo_name(member.name) for member in archive)
    except tarfile.TarError:  # it becomes a row with an error when it is read
        return None


def _row_groups(filesystem: Any, root: str, name: str, column: str | None) -> Iterator[Unit]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    with filesystem.open(path_in(root, name), "rb") as stream:
        try:
            file = pq.ParquetFile(stream)
        except pa.ArrowInvalid as exc:
            raise ConfigurationError(f"{name} is no Parquet file: {exc}") from exc
        column = _column(file.schema_arrow, name, column)
        first_row = 0
        for number in range(file.num_row_groups):
            count = file.metadata.row_group(number).num_rows
            yield Unit("parquet", root, (name,), column, number, first_row, count)
            first_row += count


def _column(schema: Any, name: str, column: str | None) -> str:
    import pyarrow as pa

    def holds_photos(kind: Any) -> bool:
        if pa.types.is_struct(kind):  # as Hugging Face's data sets have it
            return any(field.name == "bytes" for field in kind)
        return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))

    if column is not None and column in schema.names:
        return column
    fitting = [field.name for field in schema if holds_photos(field.type)]
    if column is not None or len(fitting) != 1:
        raise ConfigurationError(
            f"{name}: name the column of the photos with --column, one of {', '.join(schema.names)}"
        )
    return str(fitting[0])
