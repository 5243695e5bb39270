"""Read the images of a unit: image files when the client sends them, archives one image after the other."""

from __future__ import annotations

import bz2
import dataclasses
import functools
import gzip
import itertools
import lzma
import posixpath
import tarfile
import zlib
from collections.abc import Callable, Iterator
from typing import Any, Self, TypeAlias

import pyarrow as pa
import pyarrow.parquet as pq

from resnet_client.bulk.sources import Unit, kind_of
from resnet_client.bulk.storage import END, Storage, failure, split
from resnet_client.errors import ConfigurationError, ImageError, ResnetClientError
from resnet_client.preprocessing import InvalidImageError, Limits

_LIMITS = Limits()
_ROWS_AT_ONCE = 16
_MAX_LINKS = 40  # in a chain, as in Linux
# tarfile reads only the first of several streams, which parallel compressors write.
_DECOMPRESSORS: tuple[tuple[bytes, Callable[[Any], Any]], ...] = (
    (b"\x1f\x8b", gzip.open),
    (b"BZh", bz2.open),
    (b"\xfd7zXZ", lzma.open),
)
_DAMAGE = (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile, lzma.LZMAError)

Storages: TypeAlias = Callable[[str], Storage]
"""Opens a file system by its URL, or returns it if it is open."""


@dataclasses.dataclass(frozen=True)
class Image:
    """One image of a unit; to the client it is an open file.

    Attributes:
        row_name: its name in the results.
        load: returns the encoded image.
        ends_part: name of the part, if the image is its last one; else None.
    """

    row_name: str
    load: Callable[[], bytes]
    ends_part: str | None = None

    def read(self) -> bytes:
        """The encoded image, in any thread and as often as it is sent.

        Raises:
            ImageError: it cannot be read, is empty or too large.
            UnreachableError: its file system cannot be reached.
        """
        content = self.load()
        try:
            _LIMITS.check_bytes(len(content))
        except InvalidImageError as exc:
            raise ImageError(str(exc), source=self.row_name) from exc
        return content


def read_images(unit: Unit, skip: int, storages: Storages) -> Iterator[Image]:
    """The images of a unit without the first ``skip``, in a fixed order.

    An archive or Parquet file that is damaged or cannot be opened yields the images that can be read, and one image
    with the name of the file that raises the cause when it is read.

    Raises:
        ConfigurationError: reading the archive or Parquet file failed.
        UnreachableError: a file system cannot be reached.
    """
    storage = storages(unit.storage)
    if unit.kind == "files":
        yield from (_image_file(storage.name(path), storage, path) for path in unit.names[skip:])
        return
    read = _tar_members if unit.kind == "tar" else _parquet_rows
    name = storage.name(unit.names[0])
    try:
        yield from itertools.islice(read(unit, name, storages), skip, None)
    except ImageError as exc:
        yield _failed(name, str(exc))
    except ResnetClientError:
        raise
    except Exception as exc:  # each file system of fsspec raises its own types
        raise failure(name, "read", exc) from exc


def _image_file(row_name: str, storage: Storage, path: str) -> Image:
    load = functools.partial(storage.read, path)
    if storage.is_concurrent:
        return Image(row_name, load)
    try:
        content = load()
    except ImageError as exc:
        return _failed(row_name, str(exc))
    return Image(row_name, lambda: content)


def _failed(name: str, message: str) -> Image:
    def load() -> bytes:
        raise ImageError(message, source=name)

    return Image(name, load)


class _Member(tarfile.TarInfo):
    """Fails at damaged headers and at a missing end, which tarfile takes for the end of the archive."""

    @classmethod
    def fromtarfile(cls, archive: Any) -> Self:
        was_at_end, archive.is_at_end = getattr(archive, "is_at_end", False), False
        try:
            return super().fromtarfile(archive)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]  # not in the stubs
            archive.is_at_end = True  # another archive may follow
            raise
        except tarfile.HeaderError as exc:
            if was_at_end and isinstance(exc, tarfile.EmptyHeaderError):  # type: ignore[attr-defined]
                raise
            raise tarfile.ReadError(str(exc)) from exc


def _tar_members(unit: Unit, name: str, storages: Storages) -> Iterator[Image]:
    storage, path = storages(unit.storage), unit.names[0]
    links: dict[str, str] = {}
    damage: list[str] = []
    count = 0
    for member, content in _read_tar(storage.open(path), lambda member: kind_of(member.name) == "files", damage):
        row_name = f"{name}/{member.name}"
        if content is not None:
            yield Image(row_name, functools.partial(bytes, content))
        elif member.issym() or member.islnk():
            folder = posixpath.dirname(member.name) if member.issym() else ""
            links[member.name] = posixpath.normpath(posixpath.join(folder, member.linkname))
        else:
            yield _failed(row_name, "it is not a file")
        count += 1
    if links:
        yield from _linked_members(storage.open(path), name, links)
    if damage:
        yield _failed(name, f"the archive is damaged after {count} images ({damage[0]})")


def _linked_members(stream: Any, name: str, links: dict[str, str]) -> Iterator[Image]:
    """The images that links lead to, from a second pass over the archive, which is read as a stream."""
    wanted: dict[str, list[str]] = {}
    ends = {posixpath.normpath(link): target for link, target in links.items()}
    for link, target in links.items():
        for _ in range(_MAX_LINKS):
            target = ends.get(target, target)  # noqa: PLW2901  # follow a chain
        wanted.setdefault(target, []).append(link)
    for member, content in _read_tar(stream, lambda member: posixpath.normpath(member.name) in wanted, []):
        if content is not None:
            for link in wanted.pop(posixpath.normpath(member.name)):
                yield Image(f"{name}/{link}", functools.partial(bytes, content))
    for target, names in wanted.items():
        yield from (
            _failed(f"{name}/{link}", f"it is a link to {target}, which is not in the archive") for link in names
        )


def _read_tar(
    stream: Any, is_wanted: Callable[[tarfile.TarInfo], bool], damage: list[str]
) -> Iterator[tuple[tarfile.TarInfo, bytes | None]]:
    """The wanted members of an archive, folders excluded, with content if they are files; appends what is damaged."""
    try:
        with (
            stream,
            tarfile.open(fileobj=_decompressed(stream), mode="r|", tarinfo=_Member, ignore_zeros=True) as archive,
        ):
            for member in archive:
                archive.members = []  # type: ignore[attr-defined]  # it would keep all of them
                if is_wanted(member) and not member.isdir():
                    yield member, archive.extractfile(member).read(END) if member.isfile() else None  # type: ignore[union-attr]  # it is a file
    except (*_DAMAGE, OSError) as exc:
        # Decompressors raise OSErrors without a number; those of a file system end the run.
        if isinstance(exc, OSError) and (exc.errno or type(exc) not in (OSError, gzip.BadGzipFile)):
            raise
        damage.append(str(exc))


def _decompressed(stream: Any) -> Any:
    magic = stream.read(6)
    stream.seek(0)
    return next((opened(stream) for start, opened in _DECOMPRESSORS if magic.startswith(start)), stream)


def _parquet_rows(unit: Unit, name: str, storages: Storages) -> Iterator[Image]:
    number = unit.first_row
    with storages(unit.storage).open(unit.names[0]) as stream:
        try:
            for batch in pq.ParquetFile(stream).iter_batches(_ROWS_AT_ONCE, [unit.row_group], [unit.column]):
                for cell in batch.column(0).to_pylist():
                    yield _parquet_cell(f"{name}#{number}", cell, storages)
                    number += 1
        except pa.ArrowInvalid as exc:
            yield _failed(name, f"the file is damaged after row {number} ({exc})")


def _parquet_cell(row_name: str, cell: Any, storages: Storages) -> Image:
    """An image from bytes, from a path or URL, or from Hugging Face's ``{bytes, path}``."""
    if isinstance(cell, dict):
        cell = cell.get("bytes") or cell.get("path")
    if isinstance(cell, bytes):
        return Image(row_name, lambda: cell)
    if isinstance(cell, str):
        try:
            url, path = split(cell)
            return _image_file(row_name, storages(url), path)
        except ConfigurationError as exc:
            return _failed(row_name, str(exc))
    return _failed(row_name, "there is no image in this row")
