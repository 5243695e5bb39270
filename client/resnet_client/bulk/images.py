"""Read the images of a unit: image files when the client sends them, archives one image after the other."""

from __future__ import annotations

import bz2
import dataclasses
import functools
import gzip
import lzma
import tarfile
from collections.abc import Callable, Iterator
from typing import Any, Self

import pyarrow.parquet as pq

from resnet_client.bulk.sources import Unit, kind_of
from resnet_client.bulk.storage import END, UnreachableError, failure, open_file, read_file
from resnet_client.errors import ImageError
from resnet_client.preprocessing import InvalidImageError, Limits

_LIMITS = Limits()
_ROWS_AT_ONCE = 16
# tarfile reads only the first of several streams, which parallel compressors write.
_DECOMPRESSORS: tuple[tuple[bytes, Callable[[Any], Any]], ...] = (
    (b"\x1f\x8b", gzip.open),
    (b"BZh", bz2.open),
    (b"\xfd7zXZ", lzma.open),
)


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


def read_images(unit: Unit, skip: int) -> Iterator[Image]:
    """The images of a unit without the first ``skip``, in a fixed order.

    An archive or Parquet file that is damaged or cannot be opened yields the images that can be read, and one image
    with the name of the file that raises the cause when it is read.

    Raises:
        UnreachableError: a file system cannot be reached.
    """
    if unit.kind == "files":
        yield from (Image(name, functools.partial(read_file, name)) for name in unit.names[skip:])
        return
    count = 0
    try:
        for image in _tar_members(unit) if unit.kind == "tar" else _parquet_rows(unit):
            count += 1
            if count > skip:
                yield image
    except UnreachableError:
        raise
    except Exception as exc:  # decompressors, tarfile, pyarrow and each file system raise their own types
        error = failure(unit.names[0], exc)
        if isinstance(error, UnreachableError):
            raise error from exc
        reason = str(exc) if isinstance(exc, ImageError) else f"the file is damaged after {count} images ({exc})"
        yield _failed(unit.names[0], reason)


def _failed(name: str, message: str) -> Image:
    def load() -> bytes:
        raise ImageError(message, source=name)

    return Image(name, load)


class _Member(tarfile.TarInfo):
    """Fails at damaged headers and at a missing end, which tarfile takes for the end of the archive."""

    @classmethod
    def fromtarfile(cls, archive: Any) -> Self:
        try:
            return super().fromtarfile(archive)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]  # not in the stubs
            raise
        except tarfile.HeaderError as exc:
            raise tarfile.ReadError(str(exc)) from exc


def _tar_members(unit: Unit) -> Iterator[Image]:
    (name,) = unit.names
    with (
        open_file(name) as stream,
        tarfile.open(fileobj=_decompressed(stream), mode="r|", tarinfo=_Member) as archive,
    ):
        for member in archive:
            archive.members = []  # type: ignore[attr-defined]  # it would keep all of them
            row_name = f"{name}/{member.name}"
            if kind_of(member.name) != "files" or member.isdir():
                continue
            if member.isfile():
                content = archive.extractfile(member).read(END)  # type: ignore[union-attr]  # it is a file
                yield Image(row_name, functools.partial(bytes, content))
            else:
                yield _failed(row_name, "it is a link or a device, not a file")


def _decompressed(stream: Any) -> Any:
    magic = stream.read(6)
    stream.seek(0)
    return next((opened(stream) for start, opened in _DECOMPRESSORS if magic.startswith(start)), stream)


def _parquet_rows(unit: Unit) -> Iterator[Image]:
    (name,) = unit.names
    with open_file(name) as stream:
        batches = pq.ParquetFile(stream).iter_batches(_ROWS_AT_ONCE, [unit.row_group], [unit.column])
        cells = (cell for batch in batches for cell in batch.column(0).to_pylist())
        for number, cell in enumerate(cells, start=unit.first_row):
            content = cell.get("bytes") if isinstance(cell, dict) else cell  # Hugging Face: {bytes, path}
            row_name = f"{name}#{number}"
            if content is None:
                yield _failed(row_name, "there is no image in this row")
            else:
                yield Image(row_name, functools.partial(bytes, content))
