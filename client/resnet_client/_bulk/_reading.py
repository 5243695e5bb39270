"""The photos of a unit, one after the other; the bytes of files are read only when their turn has come."""

from __future__ import annotations

import dataclasses
import gzip
import lzma
import tarfile
import time
import zlib
from collections.abc import Callable, Iterator
from typing import Any, Self

from resnet_client import preprocessing
from resnet_client._bulk._listing import is_photo_name
from resnet_client._bulk._places import filesystem_of, is_url, path_in
from resnet_client._bulk._units import Unit
from resnet_client.errors import ConfigurationError, ImageError, ResnetClientError

_MOST_BYTES = preprocessing.Limits().max_bytes
_ROWS_AT_ONCE = 16
_PAUSES_S = (0.5, 2.0)  # before reading a file again that could not be read


@dataclasses.dataclass(frozen=True)
class Photo:
    """One photo of many.

    Attributes:
        name: what its row is called.
        read: gives its bytes; raises :class:`ImageError` where there are none. Called once, in any thread.
    """

    name: str
    read: Callable[[], bytes]


def photos(unit: Unit, skip: int) -> Iterator[Photo]:
    """The photos of a unit, without the first ``skip``.

    A damaged container yields what can be read, then one photo, named like the container, that cannot.

    Raises:
        ConfigurationError: the container cannot be reached (any more).
    """
    if unit.kind == "files":
        filesystem = filesystem_of(unit.names[0]) if is_url(unit.names[0]) else filesystem_of("/")
        for name in unit.names[skip:]:
            yield Photo(name, _reader(filesystem, path_in(unit.root, name), name))
        return
    (name,) = unit.names
    try:
        yield from _skipping(_members(unit, name) if unit.kind == "tar" else _rows(unit, name), skip)
    except ResnetClientError:
        raise
    except Exception as exc:  # filesystems elsewhere raise what they like
        raise ConfigurationError(f"{name} cannot be read: {_reason(exc)}") from exc


def _skipping(found: Iterator[Photo], skip: int) -> Iterator[Photo]:
    for _ in range(skip):
        next(found, None)
    yield from found


def _failing(name: str, sentence: str) -> Photo:
    def read() -> bytes:
        raise ImageError(sentence, source=name)

    return Photo(name, read)


def _reader(filesystem: Any, path: str, name: str) -> Callable[[], bytes]:
    def read() -> bytes:
        for pause_s in (*_PAUSES_S, None):
            try:
                content: bytes = filesystem.cat_file(path, end=_MOST_BYTES + 1)
            except FileNotFoundError as exc:
                raise ImageError("there is no such file", source=name) from exc
            except (PermissionError, IsADirectoryError) as exc:
                raise ImageError(f"the file cannot be read ({_reason(exc)})", source=name) from exc
            except Exception as exc:  # a network, most often; aiohttp's errors are no OSError
                if pause_s is None:
                    raise ImageError(f"the file cannot be read ({_reason(exc)})", source=name) from exc
                time.sleep(pause_s)
            else:
                return _checked(content, len(content), name)
        raise AssertionError  # the last pause is None

    return read


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error or type(error).__name__)


def _checked(content: bytes, count: int, name: str) -> bytes:
    try:
        preprocessing.Limits().check_bytes(count)
    except preprocessing.InvalidImageError as exc:
        raise ImageError(str(exc), source=name) from exc
    return content


class _Member(tarfile.TarInfo):
    """Stops at headers that tarfile takes for the end of the archive, so that no photo is lost in silence."""

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> Self:
        try:
            return super().fromtarfile(archive)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]  # not in the stubs
            raise  # the end
        except tarfile.EmptyHeaderError as exc:  # type: ignore[attr-defined]
            raise tarfile.ReadError("it has no end mark") from exc
        except tarfile.HeaderError as exc:
            raise tarfile.ReadError(str(exc)) from exc


def _members(unit: Unit, name: str) -> Iterator[Photo]:
    """The photos of a tar shard, read as a stream: it may be compressed, and lie behind a URL."""
    path = path_in(unit.root, name)
    with filesystem_of(name if is_url(name) else "/").open(path, "rb") as stream:
        count = 0
        try:
            with tarfile.open(fileobj=stream, mode="r|*", tarinfo=_Member) as archive:
                for member in archive:
                    archive.members = []  # type: ignore[attr-defined]  # it would remember all of them
                    if member.isfile() and is_photo_name(member.name):
                        yield _member(archive, member, f"{name}/{member.name}")
                        count += 1
        except (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile) as exc:
            yield _failing(name, f"the archive is damaged after {count} photos ({exc})")


def _member(archive: tarfile.TarFile, member: tarfile.TarInfo, name: str) -> Photo:
    content = b""
    if member.size <= _MOST_BYTES:
        stream = archive.extractfile(member)
        content = stream.read() if stream else b""
    return Photo(name, lambda: _checked(content, member.size, name))


def _rows(unit: Unit, name: str) -> Iterator[Photo]:
    """The photos of a row group; a column of text names files."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    filesystem = filesystem_of(name if is_url(name) else "/")
    number = unit.first_row
    with filesystem.open(path_in(unit.root, name), "rb") as stream:
        try:
            batches = pq.ParquetFile(stream).iter_batches(_ROWS_AT_ONCE, [unit.row_group], [unit.column])
            for batch in batches:
                for cell in batch.column(0).to_pylist():
                    yield _cell(cell, f"{name}#{number}")
                    number += 1
        except pa.ArrowInvalid as exc:
            yield _failing(name, f"the file is damaged after row {number} ({exc})")


def _cell(cell: Any, name: str) -> Photo:
    if isinstance(cell, dict):
        cell = cell.get("bytes") or cell.get("path")
    if isinstance(cell, bytes):
        content = cell
        return Photo(name, lambda: _checked(content, len(content), name))
    if isinstance(cell, str):
        return Photo(name, _reader(filesystem_of(cell), cell.split("::", 1)[0], name))
    return _failing(name, "there is no photo in this row")
