"""The files of the benchmark: results, and the best settings.

``python -m benchmarks run`` and ``sweep`` write ``results/*.json``; ``python -m benchmarks.report`` reads them.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
import os
import platform
import statistics
import subprocess
from collections.abc import Callable, Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks import BENCH_BIN, CORES, ROOT

RESULTS = Path(__file__).with_name("results")
SETTINGS = Path(__file__).with_name("settings.json")

Record = dict[str, Any]

_TOOLS = ("onnxruntime", "numpy", "pillow", "torch", "nvidia-pytriton")
_PEERS = ("litserve", "bentoml", "mosec", "fastapi", "nvidia-pytriton", "onnxruntime", "pillow", "torch")
# CPU features that affect the results.
_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_int8", "amx_bf16")


def write(section: str, content: dict[str, Any]) -> None:
    """Write one file of results, with the machine that they were measured on."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{section}.json"
    path.write_text(json.dumps({"machine": _machine(), **content}, indent=1) + "\n", encoding="utf-8")
    print(f"wrote {path}")


def read(section: str) -> dict[str, Any]:
    """One file of results.

    Raises:
        SystemExit: the section was not measured yet.
    """
    path = RESULTS / f"{section}.json"
    if not path.exists():
        raise SystemExit(f"{path} does not exist: run python -m benchmarks run --only {section}")
    return _load(path)


def swept() -> list[Record]:
    """The records of all sweeps; none before the first."""
    records: list[Record] = _load(RESULTS / "sweep.json").get("records", [])
    return records


def best_settings(candidate: str, network: str) -> dict[str, Any]:
    """The best settings of a peer or the ceiling; for a network that was not tried, those of INT8.

    Raises:
        SystemExit: there are no settings.
    """
    try:
        found: dict[str, Any] = _load(SETTINGS)[candidate].get(network) or _load(SETTINGS)[candidate]["INT8"]
    except KeyError:
        raise SystemExit(f"no settings for {candidate}, {network}: run python -m benchmarks sweep") from None
    return found


def keep_settings(candidate: str, network: str, settings: dict[str, Any]) -> None:
    """Write the best settings to ``settings.json``."""
    known = _load(SETTINGS)
    known.setdefault(candidate, {})[network] = settings
    SETTINGS.write_text(json.dumps(known, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _load(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return content


def _machine() -> dict[str, Any]:
    """Processor, cores, memory, versions, commit and date."""
    information = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    fields = dict(line.split(":", 1) for line in information.splitlines() if ":" in line)
    entries = {key.strip(): value.strip() for key, value in fields.items()}
    code = f"from importlib.metadata import version; print(*(version(n) for n in {_PEERS!r}))"
    return {
        "processor": entries.get("model name", platform.processor()),
        "family": f"family {entries.get('cpu family')}, model {entries.get('model')}",
        "instructions": [flag for flag in _FLAGS if flag in entries.get("flags", "").split()],
        "cores": CORES,
        "memory_gib": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in _TOOLS},
        "peers": dict(zip(_PEERS, _output(str(BENCH_BIN / "python"), "-c", code).split(), strict=False)),
        "commit": _output("git", "rev-parse", "--short", "HEAD"),
        "date": datetime.datetime.now(tz=datetime.UTC).date().isoformat(),
    }


def _output(*command: str) -> str:
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()


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

    def text(self, digits: int = 1) -> str:
        """Such as ``23.4 [22.9, 23.8]``."""
        return f"{self.median:.{digits}f} [{self.low:.{digits}f}, {self.high:.{digits}f}]"


class Comparison:
    """The comparison: all rounds of all candidates."""

    def __init__(self) -> None:
        content = read("comparison")
        self.records: list[Record] = content["records"]
        self.checks: list[Record] = content["checks"]
        self.machine: dict[str, Any] = content["machine"]

    def networks(self) -> list[str]:
        """In the order in which they were measured."""
        return list(dict.fromkeys(record["network"] for record in self.records))

    def candidates(self, network: str) -> list[str]:
        """The candidates of a network, the ceiling first, then by throughput."""
        names = {record["candidate"] for record in self.records if record["network"] == network}

        def order(name: str) -> tuple[bool, float]:
            return name != "ceiling", -self.summary(name, network, 16, "throughput").median

        return sorted(names, key=order)

    def rounds(self, candidate: str, network: str, callers: int) -> list[Record]:
        """The records of a candidate, round by round."""
        return [
            record
            for record in self.records
            if (record["candidate"], record["network"], record["callers"]) == (candidate, network, callers)
        ]

    def summary(self, candidate: str, network: str, callers: int, key: str) -> Summary:
        """One quantity over all rounds."""
        return Summary.of(record[key] for record in self.rounds(candidate, network, callers))

    def ratio(self, ours: tuple[str, str], theirs: Iterable[tuple[str, str]], callers: int, key: str) -> Summary:
        """Ratio of this server to the best of the others, in each round; candidates are given with their network."""
        best: Callable[[Iterable[float]], float] = max if key == "throughput" else min
        others = [self.rounds(name, network, callers) for name, network in theirs]
        rounds = self.rounds(*ours, callers)
        return Summary.of(mine[key] / best(other[turn][key] for other in others) for turn, mine in enumerate(rounds))

    def ensemble(self, network: str) -> str:
        """The ensemble of this server with this network; empty if there is none."""
        return next((name.split(",")[0] for name in self.candidates(network) if name.startswith("resnet50")), "")

    def network_of(self, ensemble: str) -> str:
        """The network of an ensemble."""
        return next(str(record["network"]) for record in self.records if record["candidate"].startswith(f"{ensemble},"))

    def peers(self, network: str) -> list[tuple[str, str]]:
        """The peers: all except the ceiling and this server."""
        return [
            (name, network)
            for name in self.candidates(network)
            if name != "ceiling" and not name.startswith("resnet50")
        ]
