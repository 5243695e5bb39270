"""A few measurements of the network and of ``preprocess``, from which the rest is predicted."""

from __future__ import annotations

import dataclasses
import itertools
import math
import statistics
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from resnet_build import configs
from resnet_build.errors import BuildError
from resnet_build.options import ServingOptions
from resnet_build.tuning.control import Control
from resnet_build.tuning.costs import Costs, Layout, batches_to_measure
from resnet_build.tuning.load import Caller

# Seconds lie between the passes, so that a moment in which the machine was slow spoils one of them at most.
_PASSES = 2
_WAVES = 2
_MOST_WAVES = 50
# A network that is quick is measured more often.
_LEAST_S = 0.15


def calibrate(
    control: Control,
    caller: Caller,
    options: ServingOptions,
    *,
    layouts: Sequence[Layout],
    cores: int,
    gpus: int,
    report: Callable[[str], None],
) -> Costs:
    """Measure the costs: the network alone at three batch sizes in each layout, then single photos.

    Args:
        control: of the server.
        caller: of the same.
        options: the setting in force; no batch is larger than its largest.
        layouts: to measure.
        cores: of the machine.
        gpus: that the network runs on; 0 for the CPU.
        report: receives one sentence per layout.
    """
    sizes = batches_to_measure(options.max_batch_size)
    alone = {layout: _alone(options, layout) for layout in layouts}
    measured: dict[Layout, dict[int, float]] = {layout: dict.fromkeys(sizes, math.inf) for layout in layouts}
    for _, layout in itertools.product(range(_PASSES), layouts):
        control.apply(alone[layout], likely_batch=1)
        executions = layout.instances * max(1, gpus)
        for size in sizes:
            measured[layout][size] = min(measured[layout][size], _batch_s(control, caller, size, executions))
    for layout, times in measured.items():
        shown = ", ".join(f"{seconds * 1000:.1f} ms at {size}" for size, seconds in times.items())
        report(f"{layout} threads: a batch takes {shown}")
    control.apply(alone[layouts[0]], likely_batch=1)
    decode_s, around_s = _photo_s(control, caller)
    report(f"a photo takes {decode_s * 1000:.1f} ms in preprocess and {around_s * 1000:.1f} ms on its way")
    return Costs(cores=cores, gpus=gpus, decode_s=decode_s, around_s=around_s, measured_s=measured)


def _alone(options: ServingOptions, layout: Layout) -> ServingOptions:
    """A setting in which a batch waits for nothing."""
    return dataclasses.replace(options, instances=layout.instances, threads=layout.threads, max_queue_delay_us=0)


def _batch_s(control: Control, caller: Caller, size: int, executions: int) -> float:
    """Return the least seconds of a batch while every instance computes one, by Triton's own clock."""
    pixels = np.random.default_rng(0).integers(0, 256, (size, 224, 224, 3), dtype=np.uint8)
    waves: list[float] = []
    with ThreadPoolExecutor(executions) as pool:

        def wave() -> None:
            before = control.batches(caller.network)
            list(pool.map(lambda _: caller.compute(pixels), range(executions)))
            computed = control.batches_since(caller.network, before, size * executions)
            # Two that came together were one batch of twice the size.
            waves.extend(seconds / count for batch, (count, seconds) in computed.items() if batch == size)

        wave()
        waves.clear()  # the first of a size makes room for it
        for _ in range(_MOST_WAVES):
            wave()
            if len(waves) >= _WAVES and sum(waves) >= _LEAST_S:
                break
    if not waves:
        raise BuildError(f"{caller.network} never computed a batch of {size}")
    return min(waves)


def _photo_s(control: Control, caller: Caller) -> tuple[float, float]:
    """Return the seconds of a lonely photo in ``preprocess``, and outside of both models, on average over photos."""
    decoding, around = [], []
    models = (configs.PREPROCESS, caller.network)
    for number in range(len(caller.photos)):
        turns = []
        for _ in range(_WAVES * _PASSES):
            before = [control.batches(model) for model in models]
            total_s = caller.classify(number)
            after = [control.batches_since(model, old, 1) for model, old in zip(models, before, strict=True)]
            decode_s, network_s = (sum(seconds for _, seconds in computed.values()) for computed in after)
            turns.append((decode_s, max(0.0, total_s - decode_s - network_s)))
        decoding.append(min(decode_s for decode_s, _ in turns))
        around.append(min(around_s for _, around_s in turns))
    return statistics.mean(decoding), statistics.mean(around)
