"""Find the best settings of every peer and of the ceiling on this machine."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from typing import Any

from benchmarks import ceiling, photos, settings
from benchmarks.closed_loop import answers
from benchmarks.contenders import Ceiling, Record, check, peer
from benchmarks.peers_setup import CORES, PEERS, Peer
from benchmarks.subject import Subject

_CALLERS = 16
# Settings whose throughput is that near are alike, and the one with the shorter time for a single caller wins.
_ALIKE = 0.97

_CEILINGS = tuple(
    ceiling.Settings(batch=batch, runners=runners, threads=CORES // runners, decoders=decoders, spin=spin)
    for batch in (8, 16)
    for runners, decoders, spin in ((1, 1, True), (1, CORES, False), (CORES, 1, False))
)


def run(subject: Subject, only: Sequence[str], networks: Sequence[str], seconds: float) -> list[Record]:
    """Try every setting; keep the best in settings.json; return all that was seen."""
    jpegs = photos.standard()
    records = []
    for network in networks:
        if not only or "ceiling" in only:
            records += _ceiling(subject, network, seconds)
        for kind in PEERS:
            if kind.served([network]) and (not only or kind.name in only):
                records += _peer(kind, network, subject, jpegs, seconds)
    return records


def _ceiling(subject: Subject, network: str, seconds: float) -> list[Record]:
    records = []
    for tried in _CEILINGS:
        contender = Ceiling(network, subject.model(network), subject.recipe.resize, dataclasses.asdict(tried))
        records.append(_record("ceiling", network, dataclasses.asdict(tried), contender.measure(_CALLERS, seconds)))
    best = max(records, key=lambda record: float(record["throughput"]))
    settings.keep("ceiling", network, best["settings"])
    return records


def _peer(kind: Peer, network: str, subject: Subject, jpegs: list[bytes], seconds: float) -> list[Record]:
    records = []
    for tried in kind.grid:
        with peer(kind, network, subject, jpegs, tried) as served:
            check(kind.name, answers(served.door), kind.top1, subject, jpegs)
            seen = served.measure(_CALLERS, seconds)
            seen["p50_one_ms"] = served.measure(1, seconds / 2)["p50_ms"]
        records.append(_record(kind.name, network, dict(tried), seen))
    most = max(float(record["throughput"]) for record in records)
    alike = [record for record in records if record["throughput"] >= _ALIKE * most]
    settings.keep(kind.name, network, min(alike, key=lambda record: float(record["p50_one_ms"]))["settings"])
    return records


def _record(name: str, network: str, tried: dict[str, Any], seen: Record) -> Record:
    print(f"{time.strftime('%X')}  {name}, {network}: {seen['throughput']:6.1f}/s  {tried}", flush=True)
    return {"contender": name, "network": network, "settings": tried, **seen}
