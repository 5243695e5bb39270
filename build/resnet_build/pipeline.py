"""The build, step by step: weights → network → exports → validation → variants → configs → repository."""

from __future__ import annotations

import copy
import dataclasses
import datetime
import functools
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from resnet_build import (
    Report,
    backbone,
    bound,
    configs,
    default_model,
    export_onnx,
    export_torchscript,
    gpu,
    images,
    labelled_accuracy,
    manifest,
    plan,
    variants,
)
from resnet_build.default_model import Decision
from resnet_build.network import Network, ServedNetwork, fold_batch_norms, load_network, move_strides_up, runner
from resnet_build.plan import BuildOptions, Plan
from resnet_build.publication import locked
from resnet_build.serving_options import PLAIN
from resnet_build.validate import ExportDifference, batches_to_check, check_exports
from resnet_build.weights import Weights

# Network → the module that exports it.
_EXPORTERS = {"network_onnx": export_onnx, "network_torchscript": export_torchscript}


def build(options: BuildOptions, report: Report) -> bool:
    """Build the repository unless it is up to date.

    Args:
        options: what to build.
        report: receives one message per step.

    Returns:
        Whether anything was written.

    Raises:
        UsageError: an option is invalid; nothing was created.
        BuildError: nothing was written; the message names the cause and the remedy.
    """
    plan.check(options)
    with locked(options.repository, report):
        return _build(options, report)


def _build(options: BuildOptions, report: Report) -> bool:
    todo = plan.make(options, report)
    if todo.is_up_to_date():
        report(f"{options.repository} is up to date ({todo.weights.name}); --force builds it again")
        return False
    todo.check()
    # Before the export, which takes much longer, so that a missing image is reported early.
    calibration = todo.calibration_set()
    with tempfile.TemporaryDirectory(prefix="resnet-build-") as name:
        folder = Path(name)
        eager, served = _networks(todo.weights)
        files, opened = _export(served, folder, report)
        differences = _validate(eager, opened, todo, report)
        source, plain = files["network_onnx"], opened["network_onnx"]
        made = {}
        if calibration:
            made = variants.build(todo.variants, source, calibration, plain=plain, folder=folder, report=report)
        networks = {PLAIN: plain, **{name: made[name].network for name in todo.request.candidates if name in made}}
        decision, top1 = _choose_default(todo, networks, calibration, report)
        # Candidates for the default model that were not chosen are left out.
        made = {name: built for name, built in made.items() if name in {*todo.inputs["variants"], decision.variant}}
        files |= {configs.network_of(name): built.path for name, built in made.items()}
        maps = backbone.build(todo.weights, wire, folder, report) if (wire := todo.inputs["backbone"]) else None
        if maps:
            files[backbone.NETWORK] = maps.path
        results = {
            "parity": [dataclasses.asdict(difference) for difference in differences],
            "variants": {name: built.record for name, built in made.items()},
            "backbone": maps.record if maps else None,
            "accuracy": top1,
        }
        _publish(todo, files, decision, results, report)
    return True


def _networks(found: Weights) -> tuple[ServedNetwork, ServedNetwork]:
    """Return the network as PyTorch defines it, and the same function in fewer layers, which is exported."""
    resnet50 = load_network(found.architecture, found.state_dict)
    eager = ServedNetwork(copy.deepcopy(resnet50), found.input).eval()
    served = ServedNetwork(move_strides_up(fold_batch_norms(resnet50)), found.input).eval()
    return eager, served.requires_grad_(requires_grad=False)


def _export(served: ServedNetwork, folder: Path, report: Report) -> tuple[dict[str, Path], dict[str, Network]]:
    """Export every network into ``folder``; return network → file, and network → opened file."""
    files, opened = {}, {}
    for name, exporter in _EXPORTERS.items():
        started = time.monotonic()
        path = folder / exporter.FILENAME
        exporter.export(served, path)
        report(f"exported {name}: {path.stat().st_size / 1e6:.0f} MB in {time.monotonic() - started:.1f} s")
        files[name], opened[name] = path, exporter.open_artifact(path)
    return files, opened


def _validate(
    eager: ServedNetwork, opened: Mapping[str, Network], todo: Plan, report: Report
) -> list[ExportDifference]:
    batches = batches_to_check(todo.options.serving.max_batch_size)
    started = time.monotonic()
    pixels = images.sample(max(batches), todo.weights.preprocess_config.crop)
    differences = check_exports(runner(eager), opened, pixels, batches)
    worst = max(difference.max_probability_difference for difference in differences)
    report(
        f"validated against the eager network at batches {', '.join(map(str, batches))}: probabilities differ by at "
        f"most {worst:.1e}, no top-1 differs ({time.monotonic() - started:.1f} s)"
    )
    return differences


def _choose_default(
    todo: Plan, networks: Mapping[str, Network], calibration: images.CalibrationSet | None, report: Report
) -> tuple[Decision, float | None]:
    """Choose the network of ``resnet50``; also return its top-1 on the labelled images, if there are any."""
    config, samples = todo.weights.preprocess_config, todo.samples
    right = functools.cache(lambda name: labelled_accuracy.measure(networks[name], samples, config))
    if todo.request.has_bound and calibration:
        crops = bound.Crops(networks[PLAIN], calibration.blocks())

        def accuracy_of(name: str) -> bound.Accuracy:
            found = bound.of_top1(right(name), right(PLAIN)) if samples else bound.of_agreement(networks[name], crops)
            report(f"{configs.network_of(name)}: {found}")
            return found

        decision = default_model.decide(networks, accuracy_of, calibration.evaluation)
    else:
        decision = default_model.settled(todo.request)
    report(str(decision))
    if not todo.options.accuracy:
        return decision, None
    top1 = labelled_accuracy.check(right(decision.variant), todo.options.accuracy.least)
    report(f"accuracy of {configs.network_of(decision.variant)}: top-1 {top1:.1%} on {len(samples)} images")
    return decision, top1


def _publish(
    todo: Plan, files: Mapping[str, Path], decision: Decision, results: Mapping[str, Any], report: Report
) -> None:
    """Write the repository: network → file, and the manifest with the results of each step."""
    options = todo.options
    artifacts = {f"{network}/{options.model_version}/{path.name}": path for network, path in files.items()}
    hashes = {name: manifest.sha256(path) for name, path in artifacts.items()}
    record = _record(todo, decision, {"artifacts": hashes, **results})
    stale = todo.repository(record).publish(artifacts, record)
    report(f"wrote {options.repository}")
    if stale:
        report(
            f"removed tuned config of {', '.join(stale)} (measured with other options); "
            "run `resnet-loadtest tune` again"
        )


def _record(todo: Plan, decision: Decision, results: Mapping[str, Any]) -> manifest.Manifest:
    """Return the manifest with the new version."""
    record, options = todo.record, todo.options
    # A decision that is kept also keeps the numbers that it was based on.
    default = (record["default_model"] if todo.request.previous else {}) | decision.record
    default["weights"] = todo.weights.sha256
    version = {
        "inputs": todo.inputs | {"variants": [*results["variants"]]},
        "built_at": datetime.datetime.now(tz=datetime.UTC).isoformat(timespec="seconds"),
        **results,
    }
    return {
        **record,
        # The configurations are common to all versions, so their options are recorded once.
        "serving": dataclasses.asdict(options.serving),
        "gpu": dataclasses.asdict(gpu.chosen(record, options.gpu)),
        "default_model": default,
        "versions": record["versions"] | {str(options.model_version): version},
    }
