"""What the files of results say, in medians and spreads."""

from __future__ import annotations

import dataclasses
import json
import statistics
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parent.parent / "results"

Record = dict[str, Any]


def read(section: str) -> dict[str, Any]:
    """One file of results.

    Raises:
        SystemExit: that was not measured yet.
    """
    path = RESULTS / f"{section}.json"
    if not path.exists():
        raise SystemExit(f"there is no {path}: python -m benchmarks run --only {section}")
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


@dataclasses.dataclass(frozen=True)
class Figure:
    """A median with the range of what was seen."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Figure:
        """Summarise."""
        seen = list(values)
        return cls(statistics.median(seen), min(seen), max(seen))

    def text(self, digits: int = 1) -> str:
        """Such as ``23.4 [22.9, 23.8]``."""
        return f"{self.median:.{digits}f} [{self.low:.{digits}f}, {self.high:.{digits}f}]"


class Comparison:
    """The comparison: everybody's rounds."""

    def __init__(self) -> None:
        content = read("comparison")
        self.records: list[Record] = content["records"]
        self.checks: list[Record] = content["checks"]
        self.machine: dict[str, Any] = content["machine"]

    def networks(self) -> list[str]:
        """In the order in which they were measured."""
        return list(dict.fromkeys(record["network"] for record in self.records))

    def contenders(self, network: str) -> list[str]:
        """Who serves a network, the fastest first, the ceiling before all."""
        names = {record["contender"] for record in self.records if record["network"] == network}

        def order(name: str) -> tuple[bool, float]:
            return name != "ceiling", -self.figure(name, network, 16, "throughput").median

        return sorted(names, key=order)

    def rounds(self, contender: str, network: str, callers: int) -> list[Record]:
        """What was seen of a contender, round by round."""
        return [
            record
            for record in self.records
            if (record["contender"], record["network"], record["callers"]) == (contender, network, callers)
        ]

    def figure(self, contender: str, network: str, callers: int, key: str) -> Figure:
        """One quantity over all rounds."""
        return Figure.of(record[key] for record in self.rounds(contender, network, callers))

    def ratio(self, ours: tuple[str, str], theirs: Iterable[tuple[str, str]], callers: int, key: str) -> Figure:
        """Ours divided by the best of theirs, in each round; contenders are given with their network."""
        best: Callable[[Iterable[float]], float] = max if key == "throughput" else min
        others = [self.rounds(name, network, callers) for name, network in theirs]
        rounds = self.rounds(*ours, callers)
        return Figure.of(mine[key] / best(other[turn][key] for other in others) for turn, mine in enumerate(rounds))

    def door(self, network: str) -> str:
        """Our ensemble with this network; empty if there is none."""
        return next((name.split(",")[0] for name in self.contenders(network) if name.startswith("resnet50")), "")

    def network_of(self, door: str) -> str:
        """The network of our ensemble."""
        return next(str(record["network"]) for record in self.records if record["contender"].startswith(f"{door},"))

    def peers(self, network: str) -> list[tuple[str, str]]:
        """All but the ceiling and ours."""
        return [
            (name, network)
            for name in self.contenders(network)
            if name != "ceiling" and not name.startswith("resnet50")
        ]
