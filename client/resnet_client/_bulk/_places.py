"""Names of files, here or behind a URL, and how fsspec opens them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from resnet_client.errors import ConfigurationError

_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")


def is_url(name: str) -> bool:
    """Whether this is for fsspec (``s3://bucket/folder``, ``zip://*.jpg::photos.zip``) rather than a path here."""
    return "://" in name or "::" in name


def root_of(source: str) -> str:
    """The folder that a relative path starts from; empty for everything else."""
    return "" if is_url(source) or Path(source).is_absolute() else f"{Path.cwd()}{os.sep}"


def filesystem_of(name: str) -> Any:
    """The file system of fsspec that a name or URL belongs to.

    Raises:
        ConfigurationError: nothing installed speaks this protocol, or it does not let us in.
    """
    import fsspec.core

    try:
        filesystem, _ = fsspec.core.url_to_fs(name)
    except (ImportError, ValueError) as exc:  # its message names the package
        raise ConfigurationError(f"{name} cannot be opened: {exc}") from exc
    except OSError as exc:
        raise ConfigurationError(f"{name} cannot be opened: {exc or type(exc).__name__}") from exc
    return filesystem


def path_in(root: str, name: str) -> str:
    """What the file system calls it: of ``zip://a.jpg::photos.zip`` the part before ``::``."""
    return name.split("::", 1)[0] if is_url(name) else root + name


def name_of(filesystem: Any, path: str, source: str) -> str:
    """The inverse of :func:`path_in`, for a path found while looking through ``source``."""
    if not is_url(source):
        root = root_of(source)
        return path.removeprefix(root) if root else path
    _, separator, container = source.partition("::")
    return f"{filesystem.unstrip_protocol(path)}{separator}{container}"


def with_ranges(source: str) -> Iterator[str]:
    """``shard-{000..127}.tar`` written out, as WebDataset has it; anything else stands for itself."""
    found = _RANGE.search(source)
    if found is None:
        yield source
        return
    first, last = found.groups()
    for number in range(int(first), int(last) + 1):
        yield from with_ranges(f"{source[: found.start()]}{number:0{len(first)}d}{source[found.end() :]}")
