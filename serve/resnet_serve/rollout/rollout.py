"""The steps of a rollout: load the new version as a copy, compare it, then switch to it or refuse it; or go back."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from resnet_client import Client, DeadlineExceededError, RequestError, ResnetClientError, ResponseError
from resnet_client.admin import ModelControl
from resnet_client.printing import report
from resnet_client.requests import PROBABILITIES

from resnet_serve.rollout.comparison import Pixels, Probabilities, latencies_s, load_images, probabilities, top_1
from resnet_serve.rollout.versions import Network

_CANDIDATE = "_candidate"
# The p99 of a hundred calls is nearly their maximum, so a single pause of the machine changes it.
_MEASUREMENTS = 3
_VERIFIED_IMAGES = 16


class RolloutError(Exception):
    """The rollout cannot be carried out; the message names the cause and the remedy."""


class RefusedError(Exception):
    """The new version was refused; the message states why."""


# Errors that are the version's fault; LoadError is a RequestError. An unreachable server, for example, is not.
_FAULTS = (RefusedError, RequestError, ResponseError, DeadlineExceededError)


class Rollout:
    """One rollout on one server.

    Args:
        control: loads and unloads models there.
        client: sends requests there.
        options: of the command line, as ``resnet-serve rollout --help`` describes them.
    """

    def __init__(self, control: ModelControl, client: Client, options: argparse.Namespace) -> None:
        self._control, self._client, self._options = control, client, options

    def run(self) -> bool:
        """Run the rollout.

        Returns:
            Whether the requested version is in service; in a dry run, whether it passed the comparison.

        Raises:
            RolloutError, ResnetClientError, OSError: the rollout failed; the old version stays in service.
        """
        networks = self._networks()
        switched: list[Network] = []
        try:
            answers = [self._compare(network) for network in networks]
            if self._options.dry_run:
                report("dry run: nothing was changed")
                return True
            for network, expected in zip(networks, answers, strict=True):
                switched.append(network)
                self._switch(network, expected)
        except RefusedError as exc:
            report(str(exc))
            # Versions with the same number belong together, so a restart must not serve the others, either.
            for network in networks:
                if network.new > network.old and not self._options.dry_run:
                    self._set_aside(network, network.new)
            self._undo(switched)
            report("nothing was changed" if self._options.dry_run else "the old versions stay in service")
            return False
        except BaseException:
            self._undo(switched)
            raise
        # At the end, because until here a failure would have needed the higher version again.
        for network in networks:
            for version in network.versions():
                if version > network.new:
                    self._set_aside(network, version)
        return True

    def _loaded(self) -> dict[str, list[int]]:
        """Return the loaded versions of each model, ascending; a request without a version gets the last."""
        loaded: dict[str, list[int]] = {}
        for entry in self._control.index():
            if entry.state == "READY":
                loaded.setdefault(entry.model, []).append(int(entry.version))
        return {model: sorted(versions) for model, versions in sorted(loaded.items())}

    def _networks(self) -> list[Network]:
        """List the networks to roll out."""
        options, loaded = self._options, self._loaded()
        configs = {model: self._control.config(model) for model in loaded}
        served = [model for model, config in configs.items() if _is_network(config)]
        if unknown := [model for model in options.model if model not in served]:
            raise RolloutError(
                f"{self._control.url} does not serve a network {unknown[0]}; it serves {', '.join(served)}"
            )
        found = {model: self._find(configs[model], loaded[model]) for model in options.model or served}
        networks = [network for network in found.values() if network is not None]
        missing = ", ".join(model for model, network in found.items() if network is None)
        if not networks or (options.model and missing):
            raise RolloutError(
                f"version {options.model_version} of {missing or 'the networks'} is not in {options.repository}: "
                f"run resnet-build --model-version {options.model_version}"
            )
        for network in networks:
            if network.old == network.new:
                report(f"{network.name}: version {network.new} is already in service")
        return [network for network in networks if network.old != network.new]

    def _find(self, config: dict[str, Any], loaded: Sequence[int]) -> Network | None:
        """Find a network's new version; None if there is none."""
        new = self._options.model_version
        network = Network(config, self._options.repository / config["name"], loaded[-1], new)
        if new in loaded:
            return network
        files = network.read(new)
        return None if files is None else dataclasses.replace(network, files=files)

    def _images(self, network: Network) -> list[Pixels]:
        return load_images(self._options.images, side=network.image_side, count=self._options.calls)

    def _compare(self, network: Network) -> Probabilities:
        """Return the new version's answers; check its agreement and latency unless it is already loaded."""
        images, old, new = self._images(network), network.old, network.new
        if network.files is None:  # it was in service before, so going back needs no comparison
            return probabilities(self._client, images[:_VERIFIED_IMAGES], network.classes, network.name, version=new)
        candidate = network.name + _CANDIDATE
        # Triton would keep the files of an interrupted rollout under this name.
        self._control.unload(candidate)
        old_answers = probabilities(self._client, images, network.classes, network.name, version=old)
        try:
            with _refuses(network):
                if f"{new}/{network.filename}" not in network.files:
                    raise RefusedError(f"{network.directory / str(new)} has no {network.filename}")
                report(f"{network.name}: loading version {new} next to version {old}, under another name")
                self._control.load(candidate, network.copied(candidate), network.files)
                answers = probabilities(self._client, images, network.classes, candidate, version=new)
                self._check_agreement(old_answers, answers)
                self._check_latency((network.name, old), (candidate, new), images)
        finally:
            self._control.unload(candidate)
        return answers

    def _check_agreement(self, old: Probabilities, new: Probabilities) -> None:
        agreement, least = float(np.mean(top_1(old) == top_1(new))), self._options.min_agreement
        report(f"  same top-1: {agreement:.1%} of {len(new)} images (at least {100 * least:g}%)")
        report(f"  largest difference of a probability: {np.abs(old - new).max():.6f}")
        if agreement < least:
            raise RefusedError(
                f"its top-1 class equals that of the old version on {agreement:.1%} of the images; --min-agreement "
                f"requires {100 * least:g}%"
            )

    def _check_latency(self, old: tuple[str, int], new: tuple[str, int], images: Sequence[Pixels]) -> None:
        most, calls = self._options.max_p99_ratio, self._options.calls
        for _ in range(_MEASUREMENTS):
            durations_s = latencies_s(self._client, old, new, [images[call % len(images)] for call in range(calls)])
            (old_p50, new_p50), (old_p99, new_p99) = 1000 * np.percentile(durations_s, (50, 99), axis=1)
            ratio = new_p99 / old_p99
            report(f"  p50: old {old_p50:.1f} ms, new {new_p50:.1f} ms")
            report(f"  p99: old {old_p99:.1f} ms, new {new_p99:.1f} ms, {ratio:.2f} times (at most {most:g})")
            if ratio <= most:
                return
        raise RefusedError(
            f"its p99 latency is {ratio:.2f} times that of the old version; --max-p99-ratio allows {most:g}"
        )

    def _switch(self, network: Network, expected: Probabilities) -> None:
        old, new = network.old, network.new
        report(f"{network.name}: {'going back' if network.files is None else 'switching'} to version {new}")
        with _refuses(network):
            self._control.load(network.name, network.serving(*((old, new) if old < new else (new,))))
            if self._loaded().get(network.name, [0])[-1] != new:
                raise RolloutError(
                    f"{network.name}/{new} is missing in the repository of {self._control.url}: copy it there, and "
                    "repeat"
                )
            self._verify(network, expected)
        kept = f"; version {old} stays loaded for going back" if old < new else ""
        report(f"{network.name}: version {new} is in service{kept}")

    def _verify(self, network: Network, expected: Probabilities) -> None:
        """Send requests without a version; network and ensembles must answer as the new version."""
        images = self._images(network)[:_VERIFIED_IMAGES]
        ensembles = [model for model in self._loaded() if _takes_highest(self._control.config(model), network.name)]
        for model in (network.name, *ensembles):
            found = probabilities(self._client, images, network.classes, model, encoded=model != network.name)
            same = int(np.sum(top_1(found) == top_1(expected[: len(images)])))
            # One image may differ, because answers of quantized networks vary with the batch.
            if same < self._options.min_agreement * len(images) - 1:
                raise RefusedError(
                    f"after the switch, {model} classifies test images differently from version {network.new}"
                )
            report(f"  {model}: same top-1 as version {network.new} on {same} of {len(images)} images")

    def _undo(self, switched: Sequence[Network]) -> None:
        """Load the old versions again."""
        failures = []
        for network in switched:
            try:
                # If the server is still busy with a load that took too long, it does this one afterwards.
                self._control.load(network.name, network.serving(network.old))
            except ResnetClientError as exc:
                failures.append(f"version {network.old} of {network.name} could not be loaded again ({exc})")
        if failures:
            raise RolloutError(f"{'; '.join(failures)}: load that version, or restart the server")

    def _set_aside(self, network: Network, version: int) -> None:
        try:
            renamed = network.set_aside(version)
        except OSError as exc:
            report(f"  {network.directory}/{version} could not be renamed, so a restart would serve it: {exc}")
        else:
            report(
                f"  renamed {network.directory}/{version} to {renamed.name}, so that a restart does not serve it; "
                "rename it in other copies of the repository, too"
            )


@contextlib.contextmanager
def _refuses(network: Network) -> Iterator[None]:
    """Refuse the new version if one of its faults occurs."""
    try:
        yield
    except _FAULTS as exc:
        raise RefusedError(f"{network.name}: version {network.new} is refused: {exc}") from exc


def _is_network(config: Mapping[str, Any]) -> bool:
    is_classifier = any(output["name"] == PROBABILITIES for output in config.get("output", []))
    return is_classifier and "ensemble_scheduling" not in config


def _takes_highest(config: Mapping[str, Any], model: str) -> bool:
    """Whether this is an ensemble with a step that names the model and no version."""
    steps = config.get("ensemble_scheduling", {}).get("step", [])
    return any(step["model_name"] == model and int(step.get("model_version", -1)) == -1 for step in steps)
