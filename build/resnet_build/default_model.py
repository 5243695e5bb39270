"""Decides which network the default model `resnet50` ends in, by measurement within a bound on accuracy.

Only a variant with the FP32 network's top-1 on 99 % of the evaluation images may replace it; among those, the one that
computes most images per second on this machine is chosen. All numbers go into the manifest, and the choice is printed.
On a machine with a GPU it is the FP32 network, whose configuration says KIND_AUTO.
"""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from resnet_build import BuildError
from resnet_build.configs import DEFAULT_MODEL, network_of
from resnet_build.network import Network, Pixels
from resnet_build.options import AUTO, OPENVINO_VARIANTS, PLAIN
from resnet_build.validate import Fidelity
from resnet_build.variants import Built, has_bfloat16, open_network, processor

_LEAST_AGREEMENT = 0.99
# What the dynamic batcher makes of some callers at once.
_BATCH = 8
_ROUNDS = 5


@dataclasses.dataclass(frozen=True)
class Request:
    """What ``resnet50`` is to end in.

    Attributes:
        requested: ``auto``, ``onnx``, or a variant.
        previous: ``onnx`` or the variant that was decided on before and stays if it is still close enough; None to
            decide again.
    """

    requested: str
    previous: str | None = None

    @property
    def candidates(self) -> tuple[str, ...]:
        """The variants that have to be built; of those in floats, only what is fastest on this processor."""
        if self.requested == AUTO and self.previous is None:
            return () if torch.cuda.is_available() else ("int8", "bf16" if has_bfloat16() else "fp32")
        return tuple(name for name in OPENVINO_VARIANTS if name == (self.previous or self.requested))


def recorded(manifest: Mapping[str, Any]) -> tuple[str, str]:
    """Return what was requested for a repository, and the variant (or ``onnx``) that ``resnet50`` ends in."""
    entry = manifest.get("default_model", {})
    network = str(entry.get("network", network_of(PLAIN)))
    return entry.get("requested", PLAIN), network.removeprefix(network_of(""))


def request(manifest: Mapping[str, Any], option: str | None, *, again: bool) -> Request:
    """Return what a build is to end in; what ``auto`` decided once stays, unless it is to decide again.

    Args:
        manifest: of the repository.
        option: ``--default-model``; None for what was requested before.
        again: ``--force``.
    """
    before, variant = recorded(manifest)
    requested = option or before
    return Request(requested, None if again or (requested, before) != (AUTO, AUTO) else variant)


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
        return f"default model: {DEFAULT_MODEL} → {network_of(self.variant)} ({self.reason})"


def decide(request: Request, source: Path, made: Mapping[str, Built], pixels: Pixels | None) -> Decision:
    """Choose among the FP32 network and the variants that are made.

    Args:
        request: what was requested.
        source: the FP32 ONNX artifact.
        made: the variants, each with its fidelity.
        pixels: images to time by, uint8, shape (N, 224, 224, 3); None if nothing is made.

    Raises:
        BuildError: a variant was requested that is not close enough.
    """
    found = {name: made[name] for name in request.candidates if name in made}
    close = {name: built for name, built in found.items() if built.fidelity.agreement >= _LEAST_AGREEMENT}
    speeds: dict[str, float] = {}
    if request.requested != AUTO:
        variant = request.requested
        # FP32 also stands where nothing was requested.
        reason = "the FP32 network, unless --default-model names another" if variant == PLAIN else "as requested"
        if variant != PLAIN and variant not in close:
            raise BuildError(
                f"{DEFAULT_MODEL} cannot end in {network_of(variant)}: {_closeness(found[variant].fidelity)}, and "
                f"{_LEAST_AGREEMENT:.0%} is the least; nothing was written. It can be served under its own name: "
                f"--variant {variant}"
            )
    elif request.previous in {PLAIN, *close}:
        variant, reason = str(request.previous), "as decided before; --force decides again"
    elif close and pixels is not None:
        networks = {PLAIN: open_network(PLAIN, source)} | {name: built.network for name, built in close.items()}
        speeds = measure(networks, pixels[:_BATCH])
        variant = max(speeds, key=lambda name: speeds[name])
        numbers = ", ".join(f"{network_of(name)} {speed:.1f}" for name, speed in speeds.items())
        reason = f"images/s at batch {_BATCH}: {numbers}"
    else:
        variant, reason = PLAIN, "this machine has a GPU" if torch.cuda.is_available() else "nothing faster is as exact"
    if variant in found:
        reason += f"; {_closeness(found[variant].fidelity)}"
    return Decision(variant, reason, _record(request.requested, variant, found, speeds))


def measure(networks: Mapping[str, Network], batch: Pixels) -> dict[str, float]:
    """Return images per second of each network: the median, in turns, so that other load slows all of them."""
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
    return f"the FP32 network's top-1 on {fidelity.agreement:.1%} of {fidelity.images} images"


def _record(requested: str, variant: str, found: Mapping[str, Built], speeds: Mapping[str, float]) -> dict[str, Any]:
    record: dict[str, Any] = {
        "requested": requested,
        "network": network_of(variant),
        "least_agreement": _LEAST_AGREEMENT,
        "agreement": {network_of(name): built.fidelity.agreement for name, built in found.items()},
    }
    if speeds:
        record["images_per_s"] = {network_of(name): round(speed, 1) for name, speed in speeds.items()}
        record["measured_on"] = {"processor": processor(), "batch": _BATCH}
    return record
