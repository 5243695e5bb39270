"""Values out of a JSON document that anybody may have written: each of its declared type, or refused.

All functions raise TypeError or ValueError for what is refused.
"""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Mapping

T = TypeVar("T")

_LARGEST = 2**53  # above it, JSON's numbers are no longer exact
# What no terminal, no XML and no UTF-8 file takes: control characters and halves of surrogate pairs.
_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


def text(value: Any) -> str:
    """A printable text."""
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    if _UNPRINTABLE.search(value):
        raise ValueError(f"{value!r} cannot be printed")
    return value


def number(value: Any) -> float:
    """A finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{value!r} is no number")
    if not abs(value) <= _LARGEST:
        raise ValueError("a number is too large, or none")
    return value


def whole(value: Any) -> int:
    """A whole number."""
    if not isinstance(value, int):
        raise TypeError(f"{value!r} is no whole number")
    return int(number(value))


def yes_or_no(value: Any) -> bool:
    """A boolean."""
    if not isinstance(value, bool):
        raise TypeError(f"{value!r} is neither true nor false")
    return value


def numbers(value: Mapping[str, Any]) -> dict[str, float]:
    """Texts with a number each."""
    return {text(name): number(item) for name, item in value.items()}


def texts(value: Mapping[str, Any]) -> dict[str, str]:
    """Texts with a text each."""
    return {text(name): text(item) for name, item in value.items()}


_READERS = {"str": text, "float": number, "int": whole, "bool": yes_or_no}


def record(kind: type[T], values: Mapping[str, Any], **made: Any) -> T:
    """A dataclass of simple fields.

    Args:
        kind: the dataclass.
        values: field name → value, from JSON.
        made: fields that were read by the caller already.

    Raises:
        TypeError: a value is not of its field's type; a field is missing or unknown.
        ValueError: a value cannot be.
    """
    found = {}
    for field in dataclasses.fields(kind):  # type: ignore[arg-type]  # there is no type of dataclasses
        if field.name in values and field.name not in made:
            found[field.name] = _read(str(field.type), values[field.name])
    unknown = values.keys() - found.keys() - made.keys()
    if unknown:
        raise TypeError(f"{kind.__name__} has no {', '.join(sorted(unknown))}")
    return kind(**found, **made)


def _read(declared: str, value: Any) -> Any:
    name, _, optional = declared.partition(" | ")
    if value is None and optional == "None":
        return None
    return Path(text(value)) if name == "Path" else _READERS[name](value)
