"""Chooses the network of the default model `resnet50`: the fastest one within the :mod:`bound` on accuracy.

The build measures images per second on this machine, and tests the bound of the fastest candidate; if that fails, of
the next one. It prints the choice, and records all numbers in the manifest. On a machine with a GPU it chooses the FP32
network, whose config is KIND_AUTO. A variant that is requested by name needs only the accuracy of every variant.
"""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from resnet_build import UsageError, bound
from resnet_build.bound import Accuracy
from resnet_build.configs import DEFAULT_MODEL, network_of
from resnet_build.network import Network, Pixels
from resnet_build.serving_options import AUTO, OPENVINO_VARIANTS, PLAIN
from resnet_build.variants import has_bfloat16, processor

# A typical batch of the dynamic batcher with several callers.
BATCH = 8
_ROUNDS = 5


@dataclasses.dataclass(frozen=True)
class Request:
    """The network that is requested for ``resnet50``.

    Attributes:
        requested: ``auto``, ``onnx``, or a variant.
        previous: ``onnx`` or the variant that ``auto`` chose for the same weights, which stays; None to choose.
    """

    requested: str
    previous: str | None = None

    @property
    def candidates(self) -> tuple[str, ...]:
        """The variants to build; of BF16 and FP32, only the one that is faster on this processor."""
        if self.requested == AUTO and self.previous is None:
            return () if torch.cuda.is_available() else ("int8", "bf16" if has_bfloat16() else "fp32")
        return tuple(name for name in OPENVINO_VARIANTS if name == (self.previous or self.requested))

    @property
    def has_bound(self) -> bool:
        """Whether speed and accuracy of the candidates decide."""
        return self.requested == AUTO and self.previous is None and bool(self.candidates)

    def check_samples(self, count: int) -> None:
        """Refuse too few labelled images.

        Raises:
            UsageError: the bound would depend on chance.
        """
        if self.has_bound and count < bound.FEWEST_LABELLED:
            raise UsageError(
                f"--default-model auto compares top-1 on at least {bound.FEWEST_LABELLED:,} labelled images, and "
                f"--accuracy-images has {count:,}: on fewer, chance alone can cost one percent. Add images, or request "
                "a network by name, such as --default-model onnx"
            )


def recorded(manifest: Mapping[str, Any]) -> tuple[str, str]:
    """Return what was requested for a repository, and the variant (or ``onnx``) that ``resnet50`` uses."""
    entry = manifest.get("default_model", {})
    network = str(entry.get("network", network_of(PLAIN)))
    return entry.get("requested", PLAIN), network.removeprefix(network_of(""))


def request(manifest: Mapping[str, Any], option: str | None, *, again: bool, weights: str = "") -> Request:
    """Return the request of a build; a choice of ``auto`` stays for the same weights, unless it is to choose again.

    Args:
        manifest: of the repository.
        option: ``--default-model``; None for what was requested before.
        again: ``--force``, or labelled images are given.
        weights: SHA-256 of the weights.
    """
    before, variant = recorded(manifest)
    requested = option or before
    is_kept = (requested, before) == (AUTO, AUTO) and manifest["default_model"].get("weights") == weights
    return Request(requested, variant if is_kept and not again else None)


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


def settled(request: Request) -> Decision:
    """Return the decision of a request without a bound."""
    if request.requested != AUTO:
        variant = request.requested
        # Without a request, the manifest also records FP32.
        reason = "the FP32 network; --default-model selects another" if variant == PLAIN else "as requested"
    elif request.previous:
        variant, reason = request.previous, "chosen by an earlier build; --force chooses again"
    else:
        variant, reason = PLAIN, "this machine has a GPU"
    return Decision(variant, reason, _record(request.requested, variant, {}, {}))


def decide(networks: Mapping[str, Network], accuracy_of: Callable[[str], Accuracy], pixels: Pixels) -> Decision:
    """Choose among the FP32 network and the candidates that were built.

    Args:
        networks: ``onnx`` and the candidates, opened.
        accuracy_of: compares a candidate with the FP32 network; takes long, so it is called for as few as possible.
        pixels: images to measure speed with, uint8, shape (N, size, size, 3).
    """
    batch = np.resize(pixels, (BATCH, *pixels.shape[1:]))
    accuracies: dict[str, Accuracy] = {}

    def is_good(name: str) -> bool:
        if not _is_repeatable(networks[name], batch):
            return False
        if name == "fp32":  # as precise as the FP32 network, with which validation has compared it
            return True
        accuracies[name] = accuracy_of(name)
        return accuracies[name].is_enough

    speeds = measure(networks, batch)
    faster = sorted((name for name in networks if speeds[name] > speeds[PLAIN]), key=lambda name: -speeds[name])
    variant = next(filter(is_good, faster), PLAIN)
    numbers = ", ".join(f"{network_of(name)} {speed:.1f}" for name, speed in speeds.items())
    reason = f"images/s at batch {BATCH}: {numbers}"
    if variant == PLAIN:
        reason += "; no faster network is within the bound and independent of the batch size"
    return Decision(variant, reason, _record(AUTO, variant, accuracies, speeds))


def _is_repeatable(network: Network, batch: Pixels) -> bool:
    """Whether images get the same answers, equal to the bit, alone and in a batch."""
    together = network(batch)[0]
    return all(np.array_equal(network(batch[i : i + 1])[0][0], together[i]) for i in range(len(batch)))


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


def _record(
    requested: str, variant: str, accuracies: Mapping[str, Accuracy], speeds: Mapping[str, float]
) -> dict[str, Any]:
    record: dict[str, Any] = {"requested": requested, "network": network_of(variant), "least_share": bound.LEAST_SHARE}
    if accuracies:
        record["accuracy"] = {network_of(name): dataclasses.asdict(found) for name, found in accuracies.items()}
    if speeds:
        record["images_per_s"] = {network_of(name): round(speed, 1) for name, speed in speeds.items()}
        record["measured_on"] = {"processor": processor(), "batch": BATCH}
    return record
