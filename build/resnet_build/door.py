"""Decides which network the default door `resnet50` ends in, by measurement within a bound on accuracy.

Only a variant with the FP32 network's top-1 on 99 % of the evaluation images may replace it; among those, the one that
computes most images per second on this machine is chosen. All numbers go into the manifest, and the choice is printed.
On a machine with a GPU it is the float network, whose configuration says KIND_AUTO.
"""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from resnet_build.accuracy import Fidelity
from resnet_build.configs import DOOR, network_of
from resnet_build.engines import Network, has_bfloat16, open_network, processor
from resnet_build.errors import BuildError
from resnet_build.options import AUTO, OPENVINO_VARIANTS, PLAIN
from resnet_build.quantize.calibration import Pixels
from resnet_build.variants import Built

_LEAST_AGREEMENT = 0.99
# What the dynamic batcher makes of some callers at once.
_BATCH = 8
_ROUNDS = 5


@dataclasses.dataclass(frozen=True)
class Wish:
    """What the door shall end in.

    Attributes:
        requested: ``auto``, ``onnx``, or a variant.
        previous: ``onnx`` or the variant that was decided on before and stays if it is still close enough; None to
            decide anew.
    """

    requested: str
    previous: str | None = None

    @property
    def candidates(self) -> tuple[str, ...]:
        """The variants that have to be built; of those in floats, only what is fastest on this processor."""
        if self.requested == AUTO and self.previous is None:
            return () if torch.cuda.is_available() else ("int8", "bf16" if has_bfloat16() else "fp32")
        return tuple(name for name in OPENVINO_VARIANTS if name == (self.previous or self.requested))


@dataclasses.dataclass(frozen=True)
class Decision:
    """Which network it is, and why.

    Attributes:
        variant: ``onnx`` or a variant.
        reason: for people.
        record: for the manifest.
    """

    variant: str
    reason: str
    record: dict[str, Any]

    def __str__(self) -> str:
        return f"the default door {DOOR} ends in {network_of(self.variant)}: {self.reason}"


def decide(wish: Wish, source: Path, made: Mapping[str, Built], pixels: Pixels | None) -> Decision:
    """Choose among the float network and the variants that are made.

    Args:
        wish: what was asked for.
        source: the float ONNX artifact.
        made: the variants, each with its fidelity.
        pixels: photos to time by, uint8, shape (N, 224, 224, 3); None if nothing is made.

    Raises:
        BuildError: a variant was asked for that is not close enough.
    """
    found = {name: made[name] for name in wish.candidates if name in made}
    close = {name: built for name, built in found.items() if built.fidelity.agreement >= _LEAST_AGREEMENT}
    speeds: dict[str, float] = {}
    if wish.requested != AUTO:
        variant = wish.requested
        # This one also stands where nothing was asked for.
        reason = "the float network, unless --door says otherwise" if variant == PLAIN else "as asked for"
        if variant != PLAIN and variant not in close:
            raise BuildError(
                f"the default door cannot end in {network_of(variant)}: {_closeness(found[variant].fidelity)}, and "
                f"{_LEAST_AGREEMENT:.0%} is the least; nothing was written. It can have a door of its own: "
                f"--variant {variant}"
            )
    elif wish.previous in {PLAIN, *close}:
        variant, reason = str(wish.previous), "as decided before; --force decides again"
    elif close and pixels is not None:
        networks = {PLAIN: open_network(PLAIN, source)} | {name: built.network for name, built in close.items()}
        speeds = measure(networks, pixels[:_BATCH])
        variant = max(speeds, key=lambda name: speeds[name])
        figures = ", ".join(f"{speed:.1f} of {network_of(name)}" for name, speed in speeds.items())
        reason = f"photos/s here at batch {_BATCH}: {figures}"
    else:
        variant, reason = PLAIN, "this machine has a GPU" if torch.cuda.is_available() else "nothing faster is as exact"
    if variant in found:
        reason += f"; {_closeness(found[variant].fidelity)}"
    return Decision(variant, reason, _record(wish.requested, variant, found, speeds))


def measure(networks: Mapping[str, Network], batch: Pixels) -> dict[str, float]:
    """Return photos a second of each network: the median, in turns, so that whatever else runs falls on all."""
    for network in networks.values():
        network(batch)
    times: dict[str, list[float]] = {name: [] for name in networks}
    for _ in range(_ROUNDS):
        for name, network in networks.items():
            started = time.perf_counter()
            network(batch)
            times[name].append(time.perf_counter() - started)
    return {name: len(batch) / statistics.median(seconds) for name, seconds in times.items()}


def _closeness(fidelity: Fidelity) -> str:
    return f"its top-1 is the float network's on {fidelity.agreement:.1%} of {fidelity.photos} photos"


def _record(requested: str, variant: str, found: Mapping[str, Built], speeds: Mapping[str, float]) -> dict[str, Any]:
    record: dict[str, Any] = {
        "requested": requested,
        "network": network_of(variant),
        "least_agreement": _LEAST_AGREEMENT,
        "agreement": {network_of(name): built.fidelity.agreement for name, built in found.items()},
    }
    if speeds:
        record["photos_per_s"] = {network_of(name): round(speed, 1) for name, speed in speeds.items()}
        record["measured_on"] = {"processor": processor(), "batch": _BATCH}
    return record
