"""The measurements of docs/gpu.md: ``python -m benchmarks.gpu`` runs them, also on a CPU to test them.

Each function of the other modules yields its measurements in order; :mod:`benchmarks.gpu.__main__` runs them and prints
a table.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path


@dataclasses.dataclass(frozen=True)
class Settings:
    """What to measure on, and how long.

    Attributes:
        device: ``cuda`` or ``cpu``.
        repository: a built model repository.
        jpegs: encoded images, all different.
        port: HTTP port of a running server on this machine; 0 starts one.
        seconds: duration of each number.
        batches: batch sizes, ascending.
        callers: numbers of requests in flight.
        processes: most processes that decode or call at the same time.
    """

    device: str
    repository: Path
    jpegs: Sequence[bytes]
    port: int
    seconds: float
    batches: Sequence[int]
    callers: Sequence[int]
    processes: int

    @property
    def sizes(self) -> range:
        """The random batch sizes: 1 to 32, or to the largest batch if that is smaller."""
        return range(1, min(32, self.batches[-1]) + 1)


@dataclasses.dataclass(frozen=True)
class Measurement:
    """A row of the table.

    Attributes:
        check: its number, ``V1`` to ``V6``.
        what: what is measured.
        run: measures, and returns the result as text; an exception means that it cannot be measured here.
        target: what the result should be.
    """

    check: str
    what: str
    run: Callable[[], str]
    target: str = ""


def listed(values: Sequence[float], digits: int = 0) -> str:
    """Write numbers as a cell of the table."""
    return ", ".join(f"{value:,.{digits}f}" for value in values)
