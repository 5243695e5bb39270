"""The two parts of the work alone, in this process: decoding, and the network."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
from resnet_client.preprocessing import Recipe, prepare

from benchmarks.ceiling import CORES
from benchmarks.networks import open_network
from benchmarks.photos import random_pixels

_ROUNDS = 5


def decode_ms(jpegs: list[bytes], recipe: Recipe) -> float:
    """Core-milliseconds of preparing a photo: mean over the photos, median over rounds."""
    rounds = []
    for _ in range(_ROUNDS):
        start = time.thread_time()
        for jpeg in jpegs:
            prepare(jpeg, recipe)
        rounds.append(1e3 * (time.thread_time() - start) / len(jpegs))
    return float(np.median(rounds))


def network_ms(name: str, model: Path, batch: int, seconds: float) -> dict[str, float]:
    """Time per photo of a network that has all cores: on the clock, and in core-milliseconds.

    Threads do not spin between executions here, or waiting would count as work.
    """
    run = open_network(name, model, CORES, spin=False)
    pixels = random_pixels(batch)
    run(pixels)
    clock, core = [], []
    deadline = time.perf_counter() + seconds
    while time.perf_counter() < deadline:
        began, spent = time.perf_counter(), time.process_time()
        run(pixels)
        clock.append(1e3 * (time.perf_counter() - began) / batch)
        core.append(1e3 * (time.process_time() - spent) / batch)
    return {"clock_ms": float(np.median(clock)), "core_ms": float(np.median(core))}
