"""Chooses the network of the default model `resnet50`: the fastest one within a bound on accuracy.

A variant qualifies if its top-1 class equals that of the FP32 network on 99 % of the evaluation images. The build
chooses the one with the most images per second on this machine, prints the choice, and records all numbers in the
manifest. On a machine with a GPU it chooses the FP32 network, whose config is KIND_AUTO.
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
from resnet_build.serving_options import AUTO, OPENVINO_VARIANTS, PLAIN
from resnet_build.validate import Fidelity
from resnet_build.variants import Built, has_bfloat16, open_network, processor

_LEAST_AGREEMENT = 0.99
# A typical batch of the dynamic batcher with several callers.
_BATCH = 8
_ROUNDS = 5


@dataclasses.dataclass(frozen=True)
class Request:
    """The network that is requested for ``resnet50``.

    Attributes:
        requested: ``auto``, ``onnx``, or a variant.
        previous: ``onnx`` or the variant that an earlier build chose; it stays if it is still within the bound. None
            to choose again.
    """

    requested: str
    previous: str | None = None

    @property
    def candidates(self) -> tuple[str, ...]:
        """The variants to build; of BF16 and FP32, only the one that is faster on this processor."""
        if self.requested == AUTO and self.previous is None:
            return () if torch.cuda.is_available() else ("int8", "bf16" if has_bfloat16() else "fp32")
        return tuple(name for name in OPENVINO_VARIANTS if name == (self.previous or self.requested))


def recorded(manifest: Mapping[str, Any]) -> tuple[str, str]:
    """Return what was requested for a repository, and the variant (or ``onnx``) that ``resnet50`` uses."""
    entry = manifest.get("default_model", {})
    network = str(entry.get("network", network_of(PLAIN)))
    return entry.get("requested", PLAIN), network.removeprefix(network_of(""))


def request(manifest: Mapping[str, Any], option: str | None, *, again: bool) -> Request:
    """Return the request of a build; a choice of ``auto`` is kept, unless the build must choose again.

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
    """The chosen network, and why.

    Attributes:
        variant: ``onnx`` or a variant.
        reason: printed with the choice.
        record: for the manifest.
    """

    variant: str
    reason: str
    record: dict[str, Any]

    def __str__(self) -> str:
        return f"default model: {DEFAULT_MODEL} → {network_of(self.variant)} ({self.reason})"


def decide(request: Request, source: Path, made: Mapping[str, Built], pixels: Pixels | None) -> Decision:
    """Choose among the FP32 network and the variants that were built.

    Args:
        request: what was requested.
        source: the FP32 ONNX artifact.
        made: the variants, each with its fidelity.
        pixels: images to measure speed with, uint8, shape (N, size, size, 3); None if no variant was built.

    Raises:
        BuildError: the requested variant is not within the bound.
    """
    found = {name: made[name] for name in request.candidates if name in made}
    close = {name: built for name, built in found.items() if built.fidelity.agreement >= _LEAST_AGREEMENT}
    speeds: dict[str, float] = {}
    if request.requested != AUTO:
        variant = request.requested
        # Without a request, the manifest also records FP32.
        reason = "the FP32 network; --default-model selects another" if variant == PLAIN else "as requested"
        if variant != PLAIN and variant not in close:
            raise BuildError(
                f"{DEFAULT_MODEL} cannot use {network_of(variant)}: {_closeness(found[variant].fidelity)}, and at "
                f"least {_LEAST_AGREEMENT:.0%} is required; nothing was written. To serve it under its own name, use "
                f"--variant {variant}"
            )
    elif request.previous in {PLAIN, *close}:
        variant, reason = str(request.previous), "chosen by an earlier build; --force chooses again"
    elif close and pixels is not None:
        networks = {PLAIN: open_network(PLAIN, source)} | {name: built.network for name, built in close.items()}
        speeds = measure(networks, pixels[:_BATCH])
        variant = max(speeds, key=lambda name: speeds[name])
        numbers = ", ".join(f"{network_of(name)} {speed:.1f}" for name, speed in speeds.items())
        reason = f"images/s at batch {_BATCH}: {numbers}"
    elif torch.cuda.is_available():
        variant, reason = PLAIN, "this machine has a GPU"
    else:
        variant, reason = PLAIN, f"no variant has the same top-1 on {_LEAST_AGREEMENT:.0%} of the images"
    if variant in found:
        reason += f"; {_closeness(found[variant].fidelity)}"
    return Decision(variant, reason, _record(request.requested, variant, found, speeds))


def measure(networks: Mapping[str, Network], batch: Pixels) -> dict[str, float]:
    """Return images per second of each network: the median of alternating runs, so that other load affects all."""
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
    return f"same top-1 as FP32 on {fidelity.agreement:.1%} of {fidelity.images} images"


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
