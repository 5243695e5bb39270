"""Where sources are: local files, opened as the client opens them, or a file system of fsspec behind a URL."""

from __future__ import annotations

import glob
import re
import time
from typing import Any

import fsspec.core
from fsspec.archive import AbstractArchiveFileSystem
from fsspec.implementations.cached import CachingFileSystem

from resnet_client.errors import ConfigurationError, ImageError, ResnetClientError, UnavailableError
from resnet_client.images import open_file, read_file
from resnet_client.preprocessing import Limits

END = Limits().max_bytes + 1  # a longer file is refused, and not read to its end
_URL = re.compile(r"[a-z][a-z0-9+.-]*(://|::.*://)", re.IGNORECASE)
_RETRY_PAUSES_S = (0.2, 0.7)
_TRANSIENT_STATUSES = frozenset({408, 429})


class UnreachableError(UnavailableError):
    """A file system cannot be reached; check its address, or start again later to resume the run."""


class Storage:
    """A file system; only local files and asynchronous file systems can be read by several threads.

    Args:
        url: of the file system, as :func:`split` returns it; empty for local files.

    Raises:
        ConfigurationError: no installed package supports the protocol, or access is denied.
        UnreachableError: it cannot be reached.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._remote: Any = None
        if url:
            try:
                self._remote, _ = fsspec.core.url_to_fs(url)
            except Exception as exc:  # each file system of fsspec raises its own types
                raise failure(url, "opened", exc) from exc

    @property
    def is_concurrent(self) -> bool:
        """Whether several threads can read at the same time; archives have one file position."""
        return self._remote is None or self._remote.async_impl

    def name(self, path: str) -> str:
        """The path, or the URL of a path in this file system."""
        if self._remote is None:
            return path
        first, separator, target = self._url.partition("::")
        name: str = self._remote.unstrip_protocol(path)
        is_cache = separator and not name.startswith(first)  # it has the names of what it caches
        return f"{first.removesuffix('://')}::{name}" if is_cache else f"{name}{separator}{target}"

    def open(self, path: str) -> Any:
        """Open a file for reading.

        Raises:
            ImageError: it cannot be opened.
            UnreachableError: the file system cannot be reached.
        """
        if self._remote is None:
            return open_file(path)
        try:
            return self._remote.open(path, "rb")
        except Exception as exc:  # each file system of fsspec raises its own types
            raise self._error(path, exc) from exc

    def find(self, path: str, suffixes: tuple[str, ...]) -> list[str]:
        """The files at a URL's path: those below it, those that match it, or itself; sorted.

        Raises:
            FileNotFoundError: there are none; also other types of fsspec's file systems.
        """
        try:
            is_file = self._remote.info(path)["type"] == "file" and path.lower().endswith(suffixes)
            found = [path] if is_file else self._remote.find(path)
        except FileNotFoundError:
            if not glob.has_magic(path):
                raise
            matches = self._remote.glob(path, detail=True)
            found = [path for path in matches if matches[path]["type"] != "directory"]
        self._remote.invalidate_cache()  # it grows with the number of files
        return sorted(found)

    def read(self, path: str) -> bytes:
        """The content of an image file, no more than one byte beyond the limit.

        Raises:
            ImageError: it cannot be read.
            UnreachableError: the file system cannot be reached.
        """
        if self._remote is None:
            return read_file(path, END)
        for pause_s in (*_RETRY_PAUSES_S, None):
            try:
                return bytes(self._remote.cat_file(path, end=END))
            except Exception as exc:  # each file system of fsspec raises its own types
                if pause_s is None or _is_permanent(exc):
                    if "range" in str(exc).lower() and not self._remote.size(path):
                        return b""  # object stores have no range of an empty object
                    raise self._error(path, exc) from exc
            time.sleep(pause_s)
        raise AssertionError  # the last pause is None

    def _error(self, path: str, error: Exception) -> ResnetClientError:
        found = failure(self.name(path), "read", error)
        return found if isinstance(found, UnreachableError) else ImageError(str(found), source=path)


def is_url(name: str) -> bool:
    """Whether a name is a URL of fsspec, such as ``s3://bucket/folder`` or ``zip://*.jpg::images.zip``."""
    return _URL.match(name) is not None


def split(name: str) -> tuple[str, str]:
    """Split a path or URL into the URL of its file system, empty for local files, and the path in that.

    ``::`` separates file systems only after the protocol of an archive or a cache; elsewhere it is part of the path.

    Raises:
        ConfigurationError: no installed package supports the protocol.
    """
    if not is_url(name):
        return "", name
    first, separator, target = name.partition("::")
    protocol, _, inside = first.partition("://")
    try:
        kind = fsspec.get_filesystem_class(protocol)
    except (ImportError, ValueError) as exc:  # the message of ImportError names the package
        raise failure(name, "opened", exc) from exc
    if separator and issubclass(kind, CachingFileSystem) and not inside:  # simplecache::s3://bucket/folder
        url, path = split(target)
        return f"{protocol}://::{url}", path
    if separator and issubclass(kind, AbstractArchiveFileSystem | CachingFileSystem):
        return f"{protocol}://::{target}", inside
    if protocol in ("file", "local"):
        return "", kind._strip_protocol(name)  # noqa: SLF001  # fsspec's API for this
    return f"{protocol}://{inside.split('/', 1)[0]}", kind._strip_protocol(name)  # noqa: SLF001


def _is_permanent(error: Exception) -> bool:
    """Whether the same request would fail again; fsspec retries those to object stores itself, and raises OSErrors."""
    status = getattr(error, "status", 500)  # of HTTP
    return isinstance(error, OSError) or (status < 500 and status not in _TRANSIENT_STATUSES)  # noqa: PLR2004


def failure(name: str, action: str, error: Exception) -> ResnetClientError:
    """The error of the run for an error of a file system: ``UnreachableError`` if it cannot be reached."""
    reason = _reason(error)
    if (
        isinstance(error, FileNotFoundError) and reason in name
    ):  # only the path; to fsspec, all HTTP errors are this one
        error = error.__cause__ if isinstance(error.__cause__, Exception) else error
        reason = "there is no such file or folder" if _reason(error) in name else _reason(error)
    unreachable = any(re.search("Connect|Timeout", kind.__name__) for kind in type(error).__mro__)
    kind = UnreachableError if unreachable else ConfigurationError
    return kind(f"{name} cannot be {action}: {reason}")


def _reason(error: Exception) -> str:
    return " ".join(str(getattr(error, "strerror", None) or error or type(error).__name__).split())
