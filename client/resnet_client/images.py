"""Read an image from what the caller passes: as encoded bytes, or as the pixels that the network takes.

Encoded images (files, bytes) are sent unchanged. PIL images and arrays are encoded losslessly as PNG, or, with
``preprocessing="client"``, cropped directly.
"""

from __future__ import annotations

import contextlib
import functools
import io
import os
import re
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image

from resnet_client import preprocessing
from resnet_client.errors import ImageError, InvalidImageError, ResnetClientError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

ImageSource: TypeAlias = (
    str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO | Image.Image | npt.NDArray[np.uint8]
)
"""A path, encoded bytes, a binary file object, a ``PIL.Image``, or a uint8 array.

Arrays have shape (height, width, 3) in RGB order, (height, width, 4) with an alpha that is ignored, or
(height, width) for grey; values 0 to 255.
"""

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif"})
"""Suffixes of the files that are images when a folder is searched."""

_GOLDEN_SIDE = 64
_DEFAULT_LIMITS = preprocessing.Limits()


def describe(source: object) -> str:
    """A short name for error messages and reports: the path, or kind and size."""
    if isinstance(source, str | os.PathLike):
        return os.fsdecode(source) or "''"
    if isinstance(source, bytes | bytearray | memoryview):
        with contextlib.suppress(ValueError):  # a memoryview that was released
            return f"image of {memoryview(source).nbytes} bytes"
    if isinstance(source, Image.Image):
        return f"PIL image {source.width}x{source.height}"
    if isinstance(source, np.ndarray):
        return f"array of shape {source.shape}"
    return str(getattr(source, "name", None) or type(source).__name__)


def invalid(source: object, message: str) -> InvalidImageError:
    """The error for an image; the image's name, if it has one, is before the message."""
    has_name = isinstance(source, str | os.PathLike) or isinstance(getattr(source, "name", None), str)
    name = describe(source)
    return InvalidImageError(f"{name}: {message}" if has_name else message, source=name)


def is_one(source: object) -> bool:
    """Whether this is a single image, where an iterable of images is expected; many kinds of images are iterable."""
    if isinstance(source, np.ndarray):
        return _has_shape_of_one(source)
    kinds = (str, os.PathLike, bytes, bytearray, memoryview, Image.Image)
    return isinstance(source, kinds) or hasattr(source, "read")


def encoded(source: ImageSource) -> bytes:
    """The encoded image that is sent to the server: the bytes of the file, or a PNG.

    Raises:
        ImageError: it cannot be read, or is of no supported kind.
        InvalidImageError: a ``PIL.Image`` that is empty, or whose file is damaged.
    """
    return _png(source) if isinstance(source, Image.Image | np.ndarray) else _raw(source)


def pixels(
    source: ImageSource,
    preprocess_config: preprocessing.PreprocessConfig,
    limits: preprocessing.Limits = _DEFAULT_LIMITS,
) -> npt.NDArray[np.uint8]:
    """The network's input, preprocessed here with the server's config.

    Returns:
        uint8 array, shape (crop, crop, 3), HWC, RGB, 0 to 255.

    Raises:
        ImageError: it cannot be read, or is of no supported kind.
        InvalidImageError: the bytes are not an image, or exceed a limit.
    """
    try:
        if isinstance(source, Image.Image | np.ndarray):
            return preprocessing.crop_pixels(_opened(source, limits), preprocess_config)
        if isinstance(source, str | os.PathLike) and os.path.isfile(source):  # noqa: PTH113  # a path may be bytes
            limits.check_bytes(os.path.getsize(source))  # noqa: PTH202  # before gigabytes are read
        return preprocessing.prepare(_raw(source), preprocess_config, limits)
    except preprocessing.InvalidImageError as exc:
        raise invalid(source, str(exc)) from exc


def find(path: Path) -> Iterator[Path]:
    """The images in a folder and below it, as :func:`walk` finds them; a file stands for itself."""
    return map(Path, walk(os.fspath(path))) if os.path.isdir(path) else iter([path])  # noqa: PTH112  # raises nothing


def walk(folder: str, suffixes: Collection[str] = SUFFIXES) -> Iterator[str]:
    """The files in a folder and below it, by suffix, in a stable order.

    Links to folders are not followed, so no image is found twice. They, and folders that cannot be listed, are among
    the results, so that they are not lost: reading them as an image raises the reason.
    """
    unreadable: list[str] = []
    for parent, subfolders, names in os.walk(folder, onerror=lambda exc: unreadable.append(exc.filename)):
        subfolders.sort()
        found = [name for name in sorted(names) if name.lower().endswith(tuple(suffixes))]
        found += [name for name in subfolders if Path(parent, name).is_symlink()]
        yield from (os.path.join(parent, name) for name in found)  # noqa: PTH118  # keeps a leading "./"
    yield from unreadable


def open_file(path: str) -> BinaryIO:
    """Open a file for reading; anything else, such as a named pipe, could block forever and is refused.

    Raises:
        ImageError: it is missing, not a file, or cannot be read.
    """
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116  # a path may be invalid
        if stat.S_ISREG(mode):
            return Path(path).open("rb")
        if stat.S_ISDIR(mode):
            os.scandir(path).close()
    except FileNotFoundError as exc:
        raise ImageError(f"{path}: there is no such file", source=path) from exc
    except (OSError, ValueError) as exc:  # ValueError: a null byte in the path
        raise _unreadable(path, exc) from exc
    if stat.S_ISDIR(mode):
        raise ImageError(
            f"{path}: this is a folder, or a link to a folder, which is not followed; pass the files in it", source=path
        )
    raise ImageError(f"{path}: this is a pipe, a socket or a device, not a file", source=path)


def read_file(path: str, most: int = -1) -> bytes:
    """The content of a file, or its first ``most`` bytes.

    Raises:
        ImageError: it is missing, not a file, or cannot be read.
    """
    with open_file(path) as file:
        try:
            return file.read(most)
        except OSError as exc:
            raise _unreadable(path, exc) from exc


@functools.cache
def golden() -> bytes:
    """A small image (PNG, colour gradients) that every healthy server can classify."""
    ramp = np.linspace(0, 255, _GOLDEN_SIDE, dtype=np.uint8)
    red, green = np.meshgrid(ramp, ramp)
    return encoded(np.stack([red, green, red[::-1]], axis=-1))


def _raw(source: object) -> bytes:
    if isinstance(source, bytes | bytearray | memoryview):
        try:
            return bytes(source)
        except ValueError as exc:  # a memoryview that was released
            raise ImageError(f"the image's bytes cannot be read ({exc})", source=describe(source)) from exc
    if isinstance(source, str | os.PathLike):
        return _file(os.fsdecode(source))
    if hasattr(source, "read"):
        return _stream(source)
    raise ImageError(
        f"an image must be a path, bytes, a binary file, a PIL image or a uint8 array, not {type(source).__name__}",
        source=describe(source),
    )


def _file(path: str) -> bytes:
    if not path:
        raise ImageError("the path is empty; pass the path of an image", source=describe(path))
    if re.match(r"https?://", path, re.IGNORECASE):
        raise ImageError(f"{path}: the client does not download images; download it and pass its bytes", source=path)
    return read_file(path)


def _unreadable(path: str, error: Exception) -> ImageError:
    return ImageError(f"{path}: it cannot be read ({getattr(error, 'strerror', None) or error})", source=path)


def _stream(stream: Any) -> bytes:
    name = describe(stream)
    try:
        content = stream.read()
    except ResnetClientError:  # of a bulk run's image
        raise
    except Exception as exc:  # a closed file, text that cannot be decoded, and the errors of archives and stores
        raise ImageError(f"{name}: the file object cannot be read ({_reason(exc)})", source=name) from exc
    if not isinstance(content, bytes):
        raise ImageError(f"{name}: the file object does not return bytes; open it in mode 'rb'", source=name)
    return content


def _png(source: Image.Image | npt.NDArray[Any]) -> bytes:
    image, buffer = _opened(source), io.BytesIO()
    try:
        image.save(buffer, format="PNG", compress_level=1)
    except Exception as exc:  # Pillow also writes the image's `info`, which may hold anything
        raise invalid(source, f"the image cannot be encoded as PNG ({_reason(exc)})") from exc
    return buffer.getvalue()


def _opened(source: Image.Image | npt.NDArray[Any], limits: preprocessing.Limits | None = None) -> Image.Image:
    image = source if isinstance(source, Image.Image) else _from_array(source)
    if not all(image.size):
        raise invalid(source, f"the image is empty ({image.width}x{image.height} pixels)")
    if limits:
        limits.check_pixels(*image.size)
    try:
        return preprocessing.to_rgb(image)
    except preprocessing.InvalidImageError as exc:
        raise invalid(source, str(exc)) from exc
    except Exception as exc:  # Pillow decodes late and raises many types on damaged files
        raise invalid(source, f"the image is damaged: {exc}") from exc


def _from_array(array: npt.NDArray[Any]) -> Image.Image:
    if array.dtype != np.uint8 or not _has_shape_of_one(array) or array.size == 0:
        raise ImageError(
            "an array must be uint8, 0 to 255, not empty, of shape (height, width, 3) RGB, (height, width, 4) with an "
            f"alpha that is ignored, or (height, width) grey; this one is {array.dtype} of shape {array.shape}",
            source=describe(array),
        )
    return Image.fromarray(np.ascontiguousarray(array))


def _has_shape_of_one(array: npt.NDArray[Any]) -> bool:
    return array.ndim == 2 or (array.ndim == 3 and array.shape[-1] in (3, 4))  # noqa: PLR2004  # dimensions


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__
