"""Rows, the table that a part is, and its columns."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from resnet_client._bulk._asking import Failure
from resnet_client.errors import ConfigurationError
from resnet_client.results import Classification

if TYPE_CHECKING:
    from collections.abc import Sequence

    from resnet_client._bulk._asking import Answer
    from resnet_client.client import Client

FEATURES = "FEATURES__1"


@dataclasses.dataclass(frozen=True)
class Layout:
    """What the rows hold.

    Attributes:
        top_k: how many classes; None for features.
        width: length of a feature vector; 0 for classes.
        part_size: rows of a part at most.
    """

    top_k: int | None
    width: int
    part_size: int

    def schema(self) -> Any:
        """The columns, as Arrow has them."""
        import pyarrow as pa

        row = [("photo", pa.string()), ("error", pa.string())]
        if self.top_k is None:
            return pa.schema([*row, ("features", pa.list_(pa.float32(), self.width))])
        prediction = [("index", pa.int32()), ("label", pa.string()), ("probability", pa.float32())]
        columns = [*prediction, ("predictions", pa.list_(pa.struct(prediction))), ("model_version", pa.string())]
        return pa.schema([*row, *columns])

    def table(self, names: Sequence[str], answers: Sequence[Answer]) -> Any:
        """One row for each photo. Where there is no answer, features are NaN, and the columns of classes null."""
        import pyarrow as pa

        errors = [_text(answer.reason) if isinstance(answer, Failure) else None for answer in answers]
        columns = [pa.array(map(_text, names), pa.string()), pa.array(errors, pa.string())]
        columns += [self._features(answers)] if self.top_k is None else self._classes(answers)
        return pa.table(columns, schema=self.schema())

    def _features(self, answers: Sequence[Answer]) -> Any:
        import pyarrow as pa

        values = np.full((len(answers), self.width), np.nan, np.float32)
        for row, answer in enumerate(answers):
            if isinstance(answer, np.ndarray):
                if answer.size != self.width:
                    raise ConfigurationError(f"the model answers {answer.size} features now, not {self.width}")
                values[row] = answer
        return pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), self.width)

    def _classes(self, answers: Sequence[Answer]) -> list[Any]:
        import pyarrow as pa

        rows: list[dict[str, Any]] = []
        for answer in answers:
            if isinstance(answer, Classification):
                found = answer.to_dict()
                rows.append({**answer.top.to_dict(), **found})
            else:
                rows.append({})
        return [pa.array([row.get(field.name) for row in rows], field.type) for field in list(self.schema())[2:]]


def _text(name: str) -> str:
    r"""As Arrow takes it: bytes of a file's name that are no UTF-8 become ``\udcff``, as in ``classify``."""
    return name.encode(errors="backslashreplace").decode()


@dataclasses.dataclass(frozen=True)
class Part:
    """Consecutive photos of one unit, all answered.

    Attributes:
        unit: the unit's number.
        number: the part's place in it.
        is_last: whether the unit ends here.
        table: its rows, in the order of the photos.
    """

    unit: int
    number: int
    is_last: bool
    table: Any

    @property
    def failed(self) -> int:
        """Rows that hold an error."""
        return len(self.table) - int(self.table["error"].null_count)


def layout(client: Client, top_k: int | None, part_size: int) -> Layout:
    """Ask the served model how wide its features are.

    Raises:
        ServerError: it does not answer, or is not served.
    """
    outputs = client.metadata()["model"]["outputs"]
    if top_k is not None:
        return Layout(top_k, 0, part_size)
    width = next((int(output["shape"][-1]) for output in outputs if output["name"] == FEATURES), 0)
    if width < 1:
        raise ConfigurationError(f"{client.config.model} has no output {FEATURES}")
    return Layout(None, width, part_size)
