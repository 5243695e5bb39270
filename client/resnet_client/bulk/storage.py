"""Where sources are: local files, or a file system of fsspec behind a URL such as ``s3://bucket/folder``."""

from __future__ import annotations

import glob
import re
from typing import Any

import fsspec

from resnet_client import images
from resnet_client.errors import ConfigurationError, ImageError, ResnetClientError, UnavailableError
from resnet_client.preprocessing import Limits

END = Limits().max_bytes + 1  # a longer file is refused, and not read to its end
_URL = re.compile(r"([a-z][a-z0-9+.-]*)://", re.IGNORECASE)


class UnreachableError(UnavailableError):
    """A file system cannot be reached; check its address, or start again later to resume the run."""


def is_url(name: str) -> bool:
    """Whether a name is a URL of fsspec, such as ``s3://bucket/folder``."""
    return _URL.match(name) is not None


def open_file(name: str) -> Any:
    """Open a file for reading.

    Raises:
        ImageError: it cannot be opened.
        UnreachableError: the file system cannot be reached.
    """
    if not is_url(name):
        return images.open_file(name)
    try:
        system, path = _located(name)
        return system.open(path, "rb")
    except Exception as exc:  # each file system of fsspec raises its own types
        raise _of_image(name, exc) from exc


def read_file(name: str) -> bytes:
    """The content of an image file, no more than one byte beyond the limit.

    Raises:
        ImageError: it cannot be read.
        UnreachableError: the file system cannot be reached.
    """
    if not is_url(name):
        return images.read_file(name, END)
    try:
        system, path = _located(name)
        return bytes(system.cat_file(path, end=END))
    except Exception as exc:  # each file system of fsspec raises its own types
        raise _of_image(name, exc) from exc


def list_urls(url: str) -> list[str]:
    """The files below a URL, those that match it, or itself; sorted.

    Raises:
        ConfigurationError: there are none, or no installed package supports the protocol, or access is denied.
        UnreachableError: the file system cannot be reached.
    """
    try:
        system, path = _located(url)
        found = system.glob(path) if glob.has_magic(path) else system.find(path)
        system.invalidate_cache()  # it grows with the number of files
    except Exception as exc:  # each file system of fsspec raises its own types
        raise failure(url, exc) from exc
    return sorted(map(system.unstrip_protocol, found))


def failure(name: str, error: Exception) -> ResnetClientError:
    """The error of the run for an error of a file system: ``UnreachableError`` if it cannot be reached."""
    if isinstance(error, FileNotFoundError):  # to fsspec, all errors of HTTP are this one, with their cause
        cause = error.__cause__
        error = cause if isinstance(cause, Exception) else OSError("there is no such file or folder")
    is_unreachable = any(re.search("Connect|Timeout", kind.__name__) for kind in type(error).__mro__)
    reason = " ".join(str(getattr(error, "strerror", None) or error or type(error).__name__).split())
    return (UnreachableError if is_unreachable else ConfigurationError)(f"{name} cannot be read: {reason}")


def _of_image(name: str, error: Exception) -> ResnetClientError:
    found = failure(name, error)
    return found if isinstance(found, UnreachableError) else ImageError(str(found), source=name)


def _located(url: str) -> tuple[Any, str]:
    """The file system of a URL, and the path in it; ``fsspec.url_to_fs`` would split names at ``::``."""
    kind = fsspec.get_filesystem_class(url.partition("://")[0].lower())
    return kind(**kind._get_kwargs_from_urls(url)), kind._strip_protocol(url)  # noqa: SLF001  # fsspec's API for this
