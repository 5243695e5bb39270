"""Units of work: what is read from beginning to end, noted as one line of JSON each."""

from __future__ import annotations

import dataclasses
import json
from typing import Any, Literal

Kind = Literal["files", "tar", "parquet"]


@dataclasses.dataclass(frozen=True)
class Unit:
    """Photos that are read one after the other, always in the same order.

    Attributes:
        kind: ``files``: each name is a photo; ``tar``: a shard; ``parquet``: a row group.
        root: folder that relative names start from, with a slash at its end; empty for URLs and absolute paths.
        names: of the photos; of one shard or file for the other kinds.
        column: that holds the photos of a Parquet file.
        row_group: of a Parquet file.
        first_row: number of the row group's first row in its file.
        count: photos in it; None where only reading tells.
    """

    kind: Kind
    root: str
    names: tuple[str, ...]
    column: str = ""
    row_group: int = 0
    first_row: int = 0
    count: int | None = None

    def to_json(self) -> str:
        """One line, without its end."""
        return json.dumps(dataclasses.asdict(self), ensure_ascii=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, line: str) -> Unit:
        """Read what :meth:`to_json` wrote."""
        fields: dict[str, Any] = json.loads(line)
        return cls(**{**fields, "names": tuple(fields["names"])})


@dataclasses.dataclass(frozen=True)
class Task:
    """What is left of a unit.

    Attributes:
        number: the unit's place in the inventory.
        unit: the photos.
        parts: how many parts of it are written already.
        photos: how many photos are in those.
    """

    number: int
    unit: Unit
    parts: int = 0
    photos: int = 0

    def to_json(self) -> str:
        """One line, without its end."""
        return json.dumps([self.number, self.unit.to_json(), self.parts, self.photos])

    @classmethod
    def from_json(cls, line: str) -> Task:
        """Read what :meth:`to_json` wrote."""
        number, unit, parts, photos = json.loads(line)
        return cls(number, Unit.from_json(unit), parts, photos)
