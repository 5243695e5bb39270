"""Read the images of a unit: image files when the client sends them, archives one image after the other."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import tarfile
import time
from collections.abc import Callable, Iterator
from typing import Any, Self

import pyarrow as pa
import pyarrow.parquet as pq

from resnet_client.bulk.sources import Unit, is_url, kind_of, locate, reason
from resnet_client.errors import ConfigurationError, ImageError
from resnet_client.preprocessing import InvalidImageError, Limits

_LIMITS = Limits()
_END = _LIMITS.max_bytes + 1  # a longer file is refused, and not read to its end
_ROWS_AT_ONCE = 16
_RETRY_PAUSES_S = (0.5, 2.0)


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
        """
        content = self.load()
        try:
            _LIMITS.check_bytes(len(content))
        except InvalidImageError as exc:
            raise ImageError(str(exc), source=self.row_name) from exc
        return content


def read_images(unit: Unit, skip: int) -> Iterator[Image]:
    """The images of a unit without the first ``skip``, in a fixed order.

    A damaged archive or Parquet file yields the images before the damage, then one image with the name of the file
    that raises the cause when it is read.

    Raises:
        ConfigurationError: the archive or Parquet file cannot be opened.
    """
    if unit.kind == "files":
        archives: dict[str, Any] = {}
        yield from (_image_file(name, name, archives) for name in unit.names[skip:])
        return
    read = _tar_members if unit.kind == "tar" else _parquet_rows
    filesystem, path = locate(unit.names[0])
    try:
        with filesystem.open(path, "rb") as stream:
            yield from itertools.islice(read(unit, stream), skip, None)
    except ConfigurationError:
        raise
    except Exception as exc:  # each file system of fsspec raises its own types
        raise ConfigurationError(f"{unit.names[0]} cannot be read: {reason(exc)}") from exc


def _image_file(row_name: str, name: str, archives: dict[str, Any]) -> Image:
    """An image that is a file of its own, or a member of an archive (``zip://a.jpg::images.zip``).

    fsspec's archives share one file position and index their members when they are opened, so only this thread reads
    them and keeps them open in ``archives``.
    """
    member, separator, archive = name.partition("::") if is_url(name) else (name, "", "")
    if not separator:
        return Image(row_name, functools.partial(_load, *locate(name), name))
    if archive not in archives:
        archives[archive], _ = locate(name)
    try:
        content = _load(archives[archive], member, name)
    except ImageError as exc:
        return _failed(row_name, str(exc))
    return Image(row_name, lambda: content)


def _load(filesystem: Any, path: str, name: str) -> bytes:
    for pause_s in (*_RETRY_PAUSES_S, None):
        try:
            return bytes(filesystem.cat_file(path, end=_END))
        except Exception as exc:  # each file system of fsspec raises its own types
            if pause_s is None or isinstance(exc, FileNotFoundError | PermissionError | IsADirectoryError):
                raise ImageError(f"the file cannot be read ({reason(exc)})", source=name) from exc
            time.sleep(pause_s)
    raise AssertionError  # the last pause is None


def _failed(name: str, message: str) -> Image:
    def load() -> bytes:
        raise ImageError(message, source=name)

    return Image(name, load)


class _Member(tarfile.TarInfo):
    """Fails at damaged headers, which tarfile takes for the end of the archive and would ignore."""

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> Self:
        try:
            return super().fromtarfile(archive)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]  # not in the stubs
            raise  # the end
        except tarfile.HeaderError as exc:
            raise tarfile.ReadError(str(exc)) from exc


def _tar_members(unit: Unit, stream: Any) -> Iterator[Image]:
    name, count = unit.names[0], 0
    try:
        with tarfile.open(fileobj=stream, mode="r|*", tarinfo=_Member) as archive:
            for member in archive:
                archive.members = []  # type: ignore[attr-defined]  # it would keep all of them
                if member.isfile() and kind_of(member.name) == "files":
                    content = archive.extractfile(member).read(_END)  # type: ignore[union-attr]  # it is a file
                    yield Image(f"{name}/{member.name}", functools.partial(bytes, content))
                    count += 1
    except (tarfile.TarError, EOFError) as exc:
        yield _failed(name, f"the archive is damaged after {count} images ({exc})")


def _parquet_rows(unit: Unit, stream: Any) -> Iterator[Image]:
    name, number = unit.names[0], unit.first_row
    archives: dict[str, Any] = {}
    try:
        for batch in pq.ParquetFile(stream).iter_batches(_ROWS_AT_ONCE, [unit.row_group], [unit.column]):
            for cell in batch.column(0).to_pylist():
                yield _parquet_cell(f"{name}#{number}", cell, archives)
                number += 1
    except pa.ArrowInvalid as exc:
        yield _failed(name, f"the file is damaged after row {number} ({exc})")


def _parquet_cell(row_name: str, cell: Any, archives: dict[str, Any]) -> Image:
    """An image from bytes, from a path or URL, or from Hugging Face's ``{bytes, path}``."""
    if isinstance(cell, dict):
        cell = cell.get("bytes") or cell.get("path")
    if isinstance(cell, bytes):
        return Image(row_name, lambda: cell)
    if isinstance(cell, str):
        try:
            return _image_file(row_name, cell, archives)
        except ConfigurationError as exc:
            return _failed(row_name, str(exc))
    return _failed(row_name, "there is no image in this row")
