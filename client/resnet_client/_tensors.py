"""Tensors as both protocols carry them: little-endian numbers, or texts with the length in four bytes before each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

_LENGTH_BYTES = 4
_TYPES = {"FP16": "<f2", "FP32": "<f4", "FP64": "<f8"}


def written(tensor: npt.NDArray[Any]) -> bytes:
    """A tensor's content.

    Args:
        tensor: object array of bytes, or uint8.
    """
    return b"".join(_parts(tensor)) if tensor.dtype == np.object_ else tensor.tobytes()


def write_into(buffer: memoryview, tensor: npt.NDArray[Any]) -> None:
    """Write a tensor's content to the beginning of a buffer that is large enough."""
    if tensor.dtype != np.object_:
        buffer[: tensor.nbytes] = np.ascontiguousarray(tensor).reshape(-1).data
        return
    start = 0
    for part in _parts(tensor):
        buffer[start : start + len(part)] = part
        start += len(part)


def byte_size(tensor: npt.NDArray[Any]) -> int:
    """How long a tensor's content is."""
    return sum(map(len, _parts(tensor))) if tensor.dtype == np.object_ else tensor.nbytes


def read(datatype: str, shape: Sequence[int], content: bytes) -> npt.NDArray[Any]:
    """The tensor of this content; texts become an object array of bytes.

    Raises:
        ValueError: content and shape do not fit.
        LookupError: the type is none that our models answer.
    """
    if datatype == "BYTES":
        texts = list(_texts(content))
        found = np.empty(len(texts), dtype=np.object_)
        found[:] = texts
    else:
        found = np.frombuffer(content, dtype=_TYPES[datatype])
    return found.reshape(shape)


def _parts(texts: npt.NDArray[Any]) -> Iterator[bytes]:
    for text in texts.flat:
        yield len(text).to_bytes(_LENGTH_BYTES, "little")
        yield text


def _texts(content: bytes) -> Iterator[bytes]:
    start = 0
    while start < len(content):
        end = start + _LENGTH_BYTES + int.from_bytes(content[start : start + _LENGTH_BYTES], "little")
        if end > len(content):
            raise ValueError("a text ends beyond its tensor")
        yield content[start + _LENGTH_BYTES : end]
        start = end
