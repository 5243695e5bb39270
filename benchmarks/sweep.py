"""Try every setting of the other servers and of the in-process limit, and keep the best."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

from benchmarks import CORES, images, servers
from benchmarks.networks import PEER_VARIANT
from benchmarks.programs import PEERS, Peer, Settings
from benchmarks.repository import Repository
from benchmarks.results import IN_PROCESS, SETTINGS, Record, progress, read, write

_BATCHES: Sequence[Settings] = ({"batch": 4}, {"batch": 8}, {"batch": 16})
# Settings are equal if their throughput is at least this share of the highest.
_EQUAL = 0.97


def run(repository: Repository, *, seconds: float, names: Sequence[str]) -> None:
    """Measure each setting with 16 callers and with one, and write the best to ``settings.json``."""
    jpegs = images.standard()
    classes = servers.expected(repository, jpegs)

    def measured(variant: str, peer: Peer | None, settings: Settings) -> Record:
        with contextlib.ExitStack() as stack:
            if peer:
                program = peer.program(repository, settings, jpegs)
                (candidate,), _ = stack.enter_context(servers.serve(program, classes))
            else:
                candidate = stack.enter_context(servers.in_process(repository, variant, settings["batch"]))
            found = {
                "images_per_s": candidate.measure(16, seconds)["images_per_s"],
                "p50_ms": candidate.measure(1, seconds)["p50_ms"],
            }
        progress("tried", {"name": candidate.name, "variant": variant, "settings": settings}, found)
        return found

    for variant, name, peer, grid in _grids(repository.variants):
        if not names or name in names:
            known = {**read(SETTINGS), "cores": CORES}
            known.setdefault(name, {})[variant] = best(
                [(measured(variant, peer, settings), settings) for settings in grid]
            )
            write(known, SETTINGS)


def best(tried: Sequence[tuple[Record, Settings]]) -> Settings:
    """The settings with the highest throughput; of equal ones, those with the lowest latency of a single caller."""
    fastest = max(found["images_per_s"] for found, _ in tried)
    equal = [each for each in tried if each[0]["images_per_s"] >= _EQUAL * fastest]
    return min(equal, key=lambda each: float(each[0]["p50_ms"]))[1]


def _grids(variants: Sequence[str]) -> Iterator[tuple[str, str, Peer | None, Sequence[Settings]]]:
    for variant in variants:
        yield variant, IN_PROCESS, None, _BATCHES
        if variant == PEER_VARIANT:
            yield from ((variant, peer.name, peer, peer.grid) for peer in PEERS)
