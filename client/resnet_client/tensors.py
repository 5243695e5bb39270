"""Encode and decode tensors as both protocols do: little-endian numbers, or byte strings with length prefixes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

_LENGTH_BYTES = 4
_TYPES = {"FP16": "<f2", "FP32": "<f4", "FP64": "<f8"}


def parts(tensor: npt.NDArray[Any]) -> list[bytes | memoryview]:
    """A tensor's content as consecutive pieces, without copies where possible.

    Args:
        tensor: object array of bytes, or uint8.
    """
    if tensor.dtype != np.object_:
        return [np.ascontiguousarray(tensor).reshape(-1).data]
    return [part for text in tensor.flat for part in (len(text).to_bytes(_LENGTH_BYTES, "little"), text)]


def read(datatype: str, shape: Sequence[int], content: bytes) -> npt.NDArray[Any]:
    """The tensor of this content; byte strings become an object array.

    Raises:
        ValueError: content and shape do not match.
        LookupError: the data type is not supported.
    """
    if datatype == "BYTES":
        texts = list(_texts(content))
        found = np.empty(len(texts), dtype=np.object_)
        found[:] = texts
    else:
        found = np.frombuffer(content, dtype=_TYPES[datatype])
    return found.reshape(shape)


def _texts(content: bytes) -> Iterator[bytes]:
    start = 0
    while start < len(content):
        end = start + _LENGTH_BYTES + int.from_bytes(content[start : start + _LENGTH_BYTES], "little")
        if end > len(content):
            raise ValueError("a string ends after the end of its tensor")
        yield content[start + _LENGTH_BYTES : end]
        start = end
