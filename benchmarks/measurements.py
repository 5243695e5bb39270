"""What is measured, section by section; each gives the records of one file of results."""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from resnet_client.preprocessing import crop_pixels, decode

from benchmarks import contenders, ours, parts, photos, processes
from benchmarks.networks import NETWORKS
from benchmarks.subject import Subject

Record = dict[str, Any]

_CALLERS = (1, 4, 16, 64)
_MEGAPIXELS = (0.1, 0.2, 0.5, 1, 2, 4, 8, 12, 24)
_BATCHES = (1, 2, 4, 8, 16, 32)


@dataclasses.dataclass(frozen=True)
class Length:
    """How thorough a run is.

    Attributes:
        rounds: how often everybody has its turn in the comparison.
        seconds: of each measurement with many callers; half of it with one.
        curve_s: seconds of each point of a curve.
        sweep_s: seconds of each setting with many callers; half of it with one.
    """

    rounds: int
    seconds: float
    curve_s: float
    sweep_s: float


LENGTHS = {"quick": Length(2, 2.0, 1.0, 1.5), "full": Length(3, 2.4, 2.0, 4.0)}


def comparison(subject: Subject, length: Length) -> dict[str, Any]:
    """Everybody in turns, photos in, with 16 callers and with one."""
    jpegs = photos.standard()
    records = []
    with contenders.all_ready(subject, jpegs) as (everybody, checks):
        for turn in range(length.rounds):
            # Another one begins each round, so that nobody always follows the same.
            order = everybody[turn % len(everybody) :] + everybody[: turn % len(everybody)]
            for contender, callers in itertools.product(order, (16, 1)):
                seconds = length.seconds if callers > 1 else length.seconds / 2
                seen = contender.measure(callers, seconds)
                record = {"contender": contender.name, "network": contender.network, "callers": callers, "round": turn}
                records.append(_said({**record, **seen}))
    return {"records": records, "checks": checks}


def callers(subject: Subject, length: Length) -> dict[str, Any]:
    """Every door over both protocols, and the networks behind them with pixels, with 1 to 64 callers."""
    jpegs = photos.standard()
    pixels = [np.ascontiguousarray(crop_pixels(decode(jpeg), subject.recipe)) for jpeg in jpegs]
    records = []
    with ours.serving(subject.repository) as server:
        memory = processes.memory_mib(server.pid)
        doors = subject.doors()
        models = [*doors, *(NETWORKS[network].served for network in doors.values())]
        for model, protocol, count in itertools.product(models, ours.PROTOCOLS, _CALLERS):
            door = server.door(protocol, model, pixels if model.startswith("network_") else jpegs)
            sample, costs = server.measure(door, callers=count, seconds=length.curve_s)
            figures = contenders.figures(sample)
            record = {"contender": model, "network": model, "protocol": protocol, "callers": count}
            records.append(_said({**record, **figures, **dataclasses.asdict(costs)}))
    return {"records": records, "memory_mib": memory}


def sizes(subject: Subject, length: Length) -> dict[str, Any]:
    """How the cost of a photo grows with its size, from 0.1 to 24 megapixels."""
    records = []
    with ours.serving(subject.repository) as server:
        for megapixels in _MEGAPIXELS:
            jpegs = photos.of_megapixels(megapixels)
            alone = parts.decode_ms(jpegs, subject.recipe)
            door = server.door("grpc", "resnet50_int8", jpegs)
            sample, costs = server.measure(door, callers=8, seconds=length.curve_s)
            record = {"contender": "resnet50_int8", "network": "INT8", "callers": 8, "megapixels": megapixels}
            record |= {"kilobytes": sum(map(len, jpegs)) / len(jpegs) / 1e3, "decode_ms": alone}
            records.append(_said({**record, **contenders.figures(sample), **dataclasses.asdict(costs)}))
    return {"records": records}


def batches(subject: Subject, length: Length) -> dict[str, Any]:
    """What a photo costs in the network alone, by batch, and in the decoder alone."""
    records = []
    for network in subject.networks:
        for batch in _BATCHES:
            seen = parts.network_ms(network, subject.model(network), batch, length.curve_s)
            records.append(_said({"contender": "network alone", "network": network, "batch": batch, **seen}))
    return {"records": records, "decode_ms": parts.decode_ms(photos.standard(), subject.recipe)}


SECTIONS: dict[str, Callable[[Subject, Length], dict[str, Any]]] = {
    "comparison": comparison,
    "callers": callers,
    "sizes": sizes,
    "batches": batches,
}


def _said(record: Record) -> Record:
    """Show a record on the screen while the run goes on."""
    shown = {key: f"{value:.1f}" for key, value in record.items() if isinstance(value, float)}
    where = " ".join(
        str(record[key]) for key in ("contender", "network", "protocol", "callers", "batch") if key in record
    )
    print(f"{time.strftime('%X')}  {where}: {', '.join(f'{key} {value}' for key, value in shown.items())}", flush=True)
    return record
