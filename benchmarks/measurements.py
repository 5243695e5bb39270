"""The measurements: the sections of ``run``, each of which writes one file of results, and the sweep of settings."""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from resnet_client.preprocessing import crop_pixels, decode

from benchmarks import CORES, candidates, ceiling, images, processes, server
from benchmarks.networks import NETWORKS
from benchmarks.peers_setup import PEERS, Peer
from benchmarks.repository import Repository
from benchmarks.results import Record, keep_settings

_CALLERS = (1, 4, 16, 64)
_MEGAPIXELS = (0.1, 0.2, 0.5, 1, 2, 4, 8, 12, 24)
_BATCHES = (1, 2, 4, 8, 16, 32)
_SWEEP_CALLERS = 16
# Settings within this share of throughput are equal; the one with the lower latency of a single caller is chosen.
_EQUAL = 0.97
_CEILINGS = tuple(
    ceiling.Settings(batch=batch, runners=runners, threads=CORES // runners, decoders=decoders, spin=spin)
    for batch in (8, 16)
    for runners, decoders, spin in ((1, 1, True), (1, CORES, False), (CORES, 1, False))
)


@dataclasses.dataclass(frozen=True)
class Length:
    """The duration of a run.

    Attributes:
        rounds: turns of each candidate in the comparison.
        seconds: of each measurement with many callers; half of it with one.
        curve_s: seconds of each point of a curve.
        sweep_s: seconds of each setting with many callers; half of it with one.
    """

    rounds: int
    seconds: float
    curve_s: float
    sweep_s: float


LENGTHS = {"quick": Length(2, 2.0, 1.0, 1.5), "full": Length(3, 2.4, 2.0, 4.0)}


def comparison(repository: Repository, length: Length) -> dict[str, Any]:
    """All candidates in turns, images in, with 16 callers and with one."""
    jpegs = images.standard()
    records = []
    with candidates.all_ready(repository, jpegs) as (compared, checks):
        for turn in range(length.rounds):
            # Each round begins with another candidate, so that the order changes.
            order = compared[turn % len(compared) :] + compared[: turn % len(compared)]
            for candidate, callers in itertools.product(order, (16, 1)):
                seconds = length.seconds if callers > 1 else length.seconds / 2
                measured = candidate.measure(callers, seconds)
                record = {"candidate": candidate.name, "network": candidate.network, "callers": callers, "round": turn}
                records.append(_printed({**record, **measured}))
    return {"records": records, "checks": checks}


def callers(repository: Repository, length: Length) -> dict[str, Any]:
    """Every ensemble over both protocols, and their networks with pixels, with 1 to 64 callers."""
    jpegs = images.standard()
    pixels = [np.ascontiguousarray(crop_pixels(decode(jpeg), repository.preprocess_config)) for jpeg in jpegs]
    records = []
    with server.serve(repository.path) as served:
        memory = processes.memory_mib(served.pid)
        ensembles = repository.ensembles()
        models = [*ensembles, *(NETWORKS[network].served for network in ensembles.values())]
        for model, protocol, count in itertools.product(models, server.PROTOCOLS, _CALLERS):
            sender = served.sender(protocol, model, pixels if model.startswith("network_") else jpegs)
            sample, costs = served.measure(sender, callers=count, seconds=length.curve_s)
            record = {"candidate": model, "network": model, "protocol": protocol, "callers": count}
            records.append(_printed({**record, **candidates.metrics_of(sample), **dataclasses.asdict(costs)}))
    return {"records": records, "memory_mib": memory}


def sizes(repository: Repository, length: Length) -> dict[str, Any]:
    """The cost of an image by its size, from 0.1 to 24 megapixels."""
    records = []
    with server.serve(repository.path) as served:
        for megapixels in _MEGAPIXELS:
            jpegs = images.of_megapixels(megapixels)
            alone = ceiling.decode_ms(jpegs, repository.preprocess_config)
            sender = served.sender("grpc", "resnet50_int8", jpegs)
            sample, costs = served.measure(sender, callers=8, seconds=length.curve_s)
            record = {"candidate": "resnet50_int8", "network": "INT8", "callers": 8, "megapixels": megapixels}
            record |= {"kilobytes": sum(map(len, jpegs)) / len(jpegs) / 1e3, "decode_ms": alone}
            records.append(_printed({**record, **candidates.metrics_of(sample), **dataclasses.asdict(costs)}))
    return {"records": records}


def batches(repository: Repository, length: Length) -> dict[str, Any]:
    """The cost of an image in the network alone, by batch size, and in the decoder alone."""
    records = []
    for network in repository.networks:
        for batch in _BATCHES:
            measured = ceiling.network_ms(
                network, repository.model(network), batch, repository.preprocess_config.crop, length.curve_s
            )
            records.append(_printed({"candidate": "network alone", "network": network, "batch": batch, **measured}))
    return {"records": records, "decode_ms": ceiling.decode_ms(images.standard(), repository.preprocess_config)}


SECTIONS: dict[str, Callable[[Repository, Length], dict[str, Any]]] = {
    "comparison": comparison,
    "callers": callers,
    "sizes": sizes,
    "batches": batches,
}


def sweep(repository: Repository, only: Sequence[str], networks: Sequence[str], seconds: float) -> list[Record]:
    """Try every setting of the ceiling and of every peer; keep the best in settings.json; return all records."""
    jpegs = images.standard()
    records = []
    for network in networks:
        if not only or "ceiling" in only:
            records += _sweep_ceiling(repository, network, seconds)
        for peer in PEERS:
            if peer.served([network]) and (not only or peer.name in only):
                records += _sweep_peer(peer, network, repository, jpegs, seconds)
    return records


def _sweep_ceiling(repository: Repository, network: str, seconds: float) -> list[Record]:
    records = []
    for settings in map(dataclasses.asdict, _CEILINGS):
        candidate = candidates.Ceiling(network, repository.model(network), repository.preprocess_config, settings)
        measured = candidate.measure(_SWEEP_CALLERS, seconds)
        records.append(_printed({"candidate": "ceiling", "network": network, "settings": settings, **measured}))
    best = max(records, key=lambda record: float(record["throughput"]))
    keep_settings("ceiling", network, best["settings"])
    return records


def _sweep_peer(peer: Peer, network: str, repository: Repository, jpegs: list[bytes], seconds: float) -> list[Record]:
    records = []
    for settings in peer.grid:
        with candidates.serve_peer(peer, network, repository, jpegs, settings) as served:
            candidates.check(peer.name, served.sender, peer.top1, repository, jpegs)
            measured = served.measure(_SWEEP_CALLERS, seconds)
            measured["p50_one_ms"] = served.measure(1, seconds / 2)["p50_ms"]
        records.append(_printed({"candidate": peer.name, "network": network, "settings": dict(settings), **measured}))
    most = max(float(record["throughput"]) for record in records)
    equal = [record for record in records if record["throughput"] >= _EQUAL * most]
    keep_settings(peer.name, network, min(equal, key=lambda record: float(record["p50_one_ms"]))["settings"])
    return records


def _printed(record: Record) -> Record:
    """Print a record during the run."""
    shown = {key: f"{value:.1f}" for key, value in record.items() if isinstance(value, float)}
    where = " ".join(
        str(record[key])
        for key in ("candidate", "network", "protocol", "callers", "batch", "settings")
        if key in record
    )
    print(f"{time.strftime('%X')}  {where}: {', '.join(f'{key} {value}' for key, value in shown.items())}", flush=True)
    return record
