"""The files of the benchmark: ``results.json``, and the best settings of the peers in ``settings.json``."""

from __future__ import annotations

import dataclasses
import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks import CORES, ROOT

RESULTS = Path(__file__).with_name("results.json")
SETTINGS = Path(__file__).with_name("settings.json")
IN_PROCESS = "in process"

Record = dict[str, Any]
# Name of the server, its network, protocol.
Key = tuple[str, str, str]

MAIN = ((16, "images_per_s"), (1, "p50_ms"))
"""The main quantities, each with the number of callers for which it is shown."""

_PACKAGES = ("onnxruntime", "openvino", "nvidia-pytriton", "numpy", "pillow")


def machine() -> Record:
    """Processor, versions, commit and date."""
    from resnet_build.variants import processor

    pinned = Path(__file__).with_name("requirements.txt").read_text(encoding="utf-8").splitlines()
    return {
        "processor": processor(),
        "cores": CORES,
        "memory_gib": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30),
        "python": platform.python_version(),
        "version": version("resnet50-triton"),
        "packages": {name: version(name) for name in _PACKAGES},
        "peers": dict(line.split("==") for line in pinned),
        "commit": _git("describe", "--always", "--dirty", "--abbrev=10"),
        "date": datetime.datetime.now(tz=datetime.UTC).date().isoformat(),
    }


def read(path: Path) -> Record:
    """Read a file of results.

    Raises:
        SystemExit: it does not exist.
    """
    if not path.exists():
        raise SystemExit(f"{path} does not exist: run make bench")
    content: Record = json.loads(path.read_text(encoding="utf-8"))
    return content


def write(content: Record, path: Path) -> None:
    """Write a file of results or settings."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    print(f"wrote {path}")


def best_settings(name: str, variant: str) -> dict[str, Any]:
    """The best settings of a peer or of the limit.

    Raises:
        SystemExit: there are none for this number of cores.
    """
    settings = read(SETTINGS)
    if name != IN_PROCESS and settings["cores"] != CORES:
        raise SystemExit(f"{SETTINGS} is for {settings['cores']} cores, not {CORES}: run python -m benchmarks sweep")
    found: dict[str, Any] = settings[name][variant]
    return found


def progress(step: str, what: Mapping[str, Any], measured: Mapping[str, Any]) -> None:
    """Print what was measured to standard error."""
    shown = [str(value) for value in what.values() if value]
    shown += [f"{key} {value:.1f}" if isinstance(value, float) else f"{key} {value}" for key, value in measured.items()]
    print(f"{time.strftime('%X')}  {step}: {', '.join(shown)}", file=sys.stderr)


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()


@dataclasses.dataclass(frozen=True)
class Summary:
    """A median with the range of the values."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Summary:
        """Summarise."""
        known = list(values)
        return cls(statistics.median(known), min(known), max(known))

    def text(self, digits: int = 2) -> str:
        """Such as ``0.93 [0.91, 0.96]``."""
        return f"{self.median:.{digits}f} [{self.low:.{digits}f}, {self.high:.{digits}f}]"


class Measurements:
    """All rounds of all servers."""

    def __init__(self, records: Sequence[Record]) -> None:
        self._records = sorted(records, key=lambda record: int(record["round"]))
        keys = ((record["name"], record["variant"], record["protocol"]) for record in records)
        self.keys: list[Key] = list(dict.fromkeys(keys))

    def rounds(self, key: Key, callers: int, quantity: str) -> list[float]:
        """The values of a quantity, round by round."""
        return [
            record[quantity]
            for record in self._records
            if (record["name"], record["variant"], record["protocol"], record["callers"]) == (*key, callers)
        ]

    def median(self, key: Key, callers: int, quantity: str) -> float:
        """The median of the rounds."""
        return statistics.median(self.rounds(key, callers, quantity))

    def ratio(self, key: Key, others: Sequence[Key], callers: int, quantity: str) -> Summary:
        """Ratio to the best of the others in each round."""
        best = max if quantity == "images_per_s" else min
        theirs = zip(*(self.rounds(other, callers, quantity) for other in others), strict=True)
        return Summary.of(
            mine / best(values) for mine, values in zip(self.rounds(key, callers, quantity), theirs, strict=True)
        )
