"""Which settings there are, and which of them are worth measuring."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence

from resnet_build.options import ServingOptions
from resnet_build.tuning.costs import Layout

_DELAYS_US = (0, 1000, 4000)
# Each holds the network once more in memory.
_MOST_INSTANCES = 8
_MOST_PER_GPU = 4
# What somebody would try who has all day.
_GRID_BATCH = 4
_GRID_DELAY_US = 1000
# Predictions that are nearer to each other than this are alike.
_ALIKE = 0.02
# Those predicted to reach less of the best are not worth a measurement.
_PROMISING = 0.85


def layouts(current: ServingOptions, cores: int, gpus: int) -> list[Layout]:
    """Return how the network can be spread, the present layout first.

    On the CPU: all cores for one instance, or divided among several; half of the cores, which leaves the other half to
    ``preprocess``; and two instances with all cores each, of which one computes while the other is fed. On GPUs only
    the instances count.
    """
    if gpus:
        found = [Layout(instances, current.threads) for instances in range(1, _MOST_PER_GPU + 1)]
    else:
        powers = [1 << exponent for exponent in range(_MOST_INSTANCES.bit_length())]
        found = [Layout(instances, cores // instances) for instances in powers if 1 < instances <= cores]
        found = [Layout(1, 0), *found, Layout(2, cores)]
        if cores > 1:
            found.append(Layout(1, cores // 2))
    return list(dict.fromkeys([Layout.of(current), *found]))


def settings(current: ServingOptions, choice: Sequence[Layout], cores: int) -> list[ServingOptions]:
    """Return every combination, the present setting first.

    Args:
        current: the present setting; batches are tried up to its largest.
        choice: layouts.
        cores: of the machine.
    """
    found = [current]
    decoders = sorted({current.preprocess_instances, *_powers(min(cores, _most("preprocess_instances")))})
    for layout, batch, delay_us, preprocess in itertools.product(
        choice, _powers(current.max_batch_size), sorted({current.max_queue_delay_us, *_DELAYS_US}), decoders
    ):
        found.append(
            dataclasses.replace(
                current,
                instances=layout.instances,
                threads=layout.threads,
                preferred_batch_size=batch,
                max_queue_delay_us=delay_us,
                preprocess_instances=preprocess,
            )
        )
    return list(dict.fromkeys(found))


def _powers(most: int) -> list[int]:
    return sorted({most, *(1 << exponent for exponent in range(most.bit_length()))})


def _most(option: str) -> int:
    """The most that an option may be."""
    return next(int(field.metadata["most"]) for field in dataclasses.fields(ServingOptions) if field.name == option)


def is_in_grid(options: ServingOptions) -> bool:
    """Whether a setting is one of the grid: every layout and number of processes, batches and delays not hopeless."""
    return options.preferred_batch_size >= _GRID_BATCH and options.max_queue_delay_us <= _GRID_DELAY_US


def simplicity(options: ServingOptions) -> tuple[int, ...]:
    """Return what to sort by: few processes, no waiting, and large batches come first."""
    return (
        options.instances,
        options.preprocess_instances,
        options.max_queue_delay_us,
        options.threads,
        -options.preferred_batch_size,
    )


def preference(options: ServingOptions, *, is_present: bool) -> tuple[bool | int, ...]:
    """Return what to sort equals by: the present setting, for what gains nothing is not changed; then the simplest."""
    return (not is_present, *simplicity(options))


def promising(
    predicted: Mapping[ServingOptions, float], current: ServingOptions, how_many: int
) -> list[ServingOptions]:
    """Return the few settings that are worth measuring, the present one first.

    Predictions err most between layouts, so the best of each promising layout comes before the second of another; of
    settings with nearly the same prediction, the simplest stands for all.

    Args:
        predicted: setting → what is wanted of it; more is better.
        current: the present setting, which is always measured.
        how_many: settings to return, the present one included.
    """
    best = max(predicted.values())
    hopeful = {setting: value for setting, value in predicted.items() if value >= _PROMISING * best}
    found = [current]
    for layout_first in (True, False):
        rest = dict(hopeful)
        while rest and len(found) < how_many:
            top = max(rest.values())
            choice = min((setting for setting, value in rest.items() if value >= (1 - _ALIKE) * top), key=simplicity)
            value = rest[choice]
            if choice not in found:
                found.append(choice)
            # The others of its layout wait; or those that are predicted alike.
            rest = {s: v for s, v in rest.items() if not _is_like(s, choice, v, value, layout_first)}
    return found


def _is_like(one: ServingOptions, other: ServingOptions, value: float, like: float, layout_first: bool) -> bool:
    if layout_first:
        return Layout.of(one) == Layout.of(other)
    return value >= (1 - _ALIKE) * like
