"""The build, step by step: weights → network → exports → validation → variants → configs → repository."""

from __future__ import annotations

import copy
import dataclasses
import datetime
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from resnet_build import (
    BuildError,
    LateInterrupt,
    Report,
    UsageError,
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
    variants,
)
from resnet_build.network import ServedNetwork, fold_batch_norms, load_network, move_strides_up, runner
from resnet_build.publication import locked
from resnet_build.repository import Repository
from resnet_build.serving_options import AUTO, PLAIN, VARIANTS, ServingOptions
from resnet_build.validate import ExportDifference, batches_to_check, check_exports
from resnet_build.variants import open_network
from resnet_build.weights import FileOptions, Weights, check, load

# Network → the module that exports it.
_EXPORTERS = {"network_onnx": export_onnx, "network_torchscript": export_torchscript}


@dataclasses.dataclass(frozen=True)
class BuildOptions:
    """What to build, and where.

    Attributes:
        weights: the value of ``--weights``.
        file_options: what a state dict from a file does not contain.
        serving: numbers for serving.
        repository: the model repository to write.
        cache: folder for downloaded weights.
        model_version: version folder to write; others stay.
        force: build even if nothing has changed.
        variants: variants to build; the build also keeps those that the repository holds.
        calibration_images: folder of images for ``int8``; None for those used before, else bundled images.
        default: network of ``resnet50``, one of ``options.DEFAULT_MODELS``; None for what was requested before, else
            ``onnx``.
        backbone: type of the feature maps to serve; None for what was served before, else no maps.
        accuracy: labelled images to measure the network of ``resnet50`` on; None to measure nothing.
        gpu: requested values of :class:`gpu.GpuOptions`; the others stay as before.
    """

    weights: str
    file_options: FileOptions
    serving: ServingOptions
    repository: Path
    cache: Path
    model_version: int = 1
    force: bool = False
    variants: tuple[str, ...] = ()
    calibration_images: Path | None = None
    default: str | None = None
    backbone: backbone.Wire | None = None
    accuracy: labelled_accuracy.Request | None = None
    gpu: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def all_variants(self) -> tuple[str, ...]:
        """The requested variants and those in the repository, which would otherwise keep an old network."""
        wanted = {*self.variants, *(name for name in VARIANTS if _is_there(self.repository / configs.network_of(name)))}
        if self.gpu.get("gpu_engine") == "tensorrt":
            wanted.add("fp16")
        return tuple(name for name in VARIANTS if name in wanted)


def _is_there(model: Path) -> bool:
    """Whether the model has a config or an artifact; an empty folder can be left from a killed build."""
    return any(model.glob("config.pbtxt")) or any(model.glob("*/model.*"))


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
        LateInterrupt: Ctrl-C came after everything was written; before that it is a plain KeyboardInterrupt.
    """
    _check(options)
    with locked(options.repository, report):
        before = manifest.stamp(options.repository)
        try:
            return _build(options, report)
        except KeyboardInterrupt as exc:
            # The manifest is written last, so a new one means that everything was written.
            if manifest.stamp(options.repository) == before:
                raise
            raise LateInterrupt from exc


def _again(options: BuildOptions) -> bool:
    """Whether to choose the default model again, even if an earlier build did."""
    return options.force or options.accuracy is not None


def _check(options: BuildOptions) -> None:
    check(options.weights, options.file_options)
    if options.accuracy and not options.accuracy.images.is_dir():
        raise UsageError(f"the folder {options.accuracy.images} of --accuracy-images does not exist")
    if options.calibration_images:
        request = default_model.request(manifest.read(options.repository), options.default, again=_again(options))
        if "int8" not in {*options.all_variants, *request.candidates}:
            raise UsageError("--calibration-images requires --variant int8, or --default-model int8 or auto")
        images.calibration_files(options.calibration_images)


def _build(options: BuildOptions, report: Report) -> bool:
    record = manifest.read(options.repository)
    found = _find_weights(options, record, report)
    inputs = _inputs(options, record, found)
    samples = options.accuracy.samples(found.labels) if options.accuracy else []
    if not options.force and not samples and _is_up_to_date(options, record, found, inputs):
        report(f"{options.repository} is up to date ({found.name}); --force builds it again")
        return False
    _refuse_mixture(options, record, found)
    request = default_model.request(record, options.default, again=_again(options), weights=found.sha256)
    names = _variants_to_make(inputs, request)
    if samples:
        request.check_samples(len(samples))
    # Before the export, which takes much longer, so that a missing image is reported early.
    calibration = (
        images.calibration_set(_path(inputs["calibration_images"]), found.preprocess_config) if names else None
    )
    with tempfile.TemporaryDirectory(prefix="resnet-build-") as folder:
        exported, differences = _export_and_validate(found, options.serving.max_batch_size, Path(folder), report)
        source = exported["network_onnx"]
        made = variants.build(names, source, calibration, Path(folder), report) if calibration else {}
        networks = {PLAIN: open_network(PLAIN, source)}
        networks |= {name: made[name].network for name in request.candidates if name in made}
        right = labelled_accuracy.measure(networks, samples, found.preprocess_config) if samples else {}
        accuracies = {}
        if calibration and request.has_bound:
            accuracies = bound.by_top1(right) if samples else bound.by_agreement(networks, calibration.blocks())
        for name, accuracy in accuracies.items():
            report(f"{configs.network_of(name)}: {accuracy}")
        batch = images.sample(default_model.BATCH, found.preprocess_config.crop)
        decision = default_model.decide(request, networks, accuracies, batch)
        report(str(decision))
        top1 = None
        if options.accuracy:
            top1 = labelled_accuracy.check(right[decision.variant], options.accuracy.least)
            report(f"accuracy of {configs.network_of(decision.variant)}: top-1 {top1:.1%} on {len(samples)} images")
        # Candidates for the default model that were not chosen are left out.
        made = {name: built for name, built in made.items() if name in {*inputs["variants"], decision.variant}}
        exported |= {configs.network_of(name): variant.path for name, variant in made.items()}
        maps = backbone.build(found, inputs["backbone"], Path(folder), report) if inputs["backbone"] else None
        if maps:
            exported[backbone.NETWORK] = maps.path
        artifacts = {f"{network}/{options.model_version}/{path.name}": path for network, path in exported.items()}
        # The configurations are common to all versions, so their options are recorded once.
        record["serving"] = dataclasses.asdict(options.serving)
        record["gpu"] = dataclasses.asdict(gpu.chosen(record, options.gpu))
        # A decision that is kept also keeps the numbers that it was based on.
        record["default_model"] = (record["default_model"] if request.previous else {}) | decision.record
        if samples:
            record["default_model"]["labelled_weights"] = found.sha256
        record["versions"][str(options.model_version)] = {
            "inputs": inputs | {"variants": list(made)},
            "built_at": datetime.datetime.now(tz=datetime.UTC).isoformat(timespec="seconds"),
            "artifacts": {name: manifest.sha256(path) for name, path in artifacts.items()},
            "parity": [dataclasses.asdict(difference) for difference in differences],
            "variants": {name: variant.record for name, variant in made.items()},
            "backbone": maps.record if maps else None,
            "accuracy": top1,
        }
        stale = _repository(options, record, found).publish(artifacts, record)
    report(f"wrote {options.repository}")
    if stale:
        report(
            f"removed tuned config of {', '.join(stale)} (measured with other options); "
            "run `resnet-loadtest tune` again"
        )
    return True


def _find_weights(options: BuildOptions, record: manifest.Manifest, report: Report) -> Weights:
    spec = options.weights
    previous = manifest.inputs_of(record, options.model_version).get("weights", {})
    if spec == "auto" and not options.force and previous.get("requested") == "auto":
        # Later builds keep the weights chosen first; otherwise answers would change when a download works again.
        spec = previous["name"]
    return load(spec, cache=options.cache, file_options=options.file_options, report=report)


def _inputs(options: BuildOptions, record: manifest.Manifest, found: Weights) -> dict[str, Any]:
    """Everything that determines the result; equal inputs need no new build."""
    previous = manifest.inputs_of(record, options.model_version)
    folder = options.calibration_images
    # Versions share the config, and with it the type of the feature maps.
    wires = {entry["inputs"].get("backbone") for entry in record["versions"].values()}
    return {
        "weights": {
            "requested": options.weights,
            "name": found.name,
            "source": found.source,
            "architecture": found.architecture,
            "sha256": found.sha256,
        },
        "classes": len(found.labels),
        "labels": found.labels_sha256,
        "preprocessing": dataclasses.asdict(found.preprocess_config),
        "preprocessing_sha256": found.preprocess_config.sha256,
        "normalisation": {"mean": list(found.input.mean), "std": list(found.input.std)},
        "variants": list(options.all_variants),
        "calibration_images": str(folder.resolve()) if folder else previous.get("calibration_images"),
        "backbone": options.backbone or next((wire for wire in ("fp32", "fp16") if wire in wires), None),
        "tools": manifest.tool_versions(),
    }


def _is_up_to_date(options: BuildOptions, record: manifest.Manifest, found: Weights, inputs: Mapping[str, Any]) -> bool:
    """Whether the repository is what a build with these inputs would write."""
    requested, _ = default_model.recorded(record)
    return (
        manifest.inputs_of(record, options.model_version) == inputs
        and record.get("serving") == dataclasses.asdict(options.serving)
        and gpu.chosen(record, options.gpu) == gpu.chosen(record, {})
        and (options.default or requested) == requested
        and _repository(options, record, found).is_complete()
        and manifest.has_artifacts(options.repository, record, options.model_version)
    )


def _repository(options: BuildOptions, record: manifest.Manifest, found: Weights) -> Repository:
    """The repository that a manifest describes, with these weights."""
    inputs = manifest.inputs_of(record, options.model_version)
    return Repository(
        options.repository,
        labels=found.labels,
        preprocess_config=found.preprocess_config,
        serving=options.serving,
        gpu_options=gpu.chosen(record, {}),
        variants=tuple(inputs["variants"]),
        default=default_model.recorded(record)[1],
        wire=inputs["backbone"],
    )


def _refuse_mixture(options: BuildOptions, record: manifest.Manifest, found: Weights) -> None:
    """Refuse weights with other labels or preprocessing: versions of a model share its config."""
    for version, entry in record["versions"].items():
        if version == str(options.model_version):
            continue
        wire = entry["inputs"].get("backbone")
        if options.backbone and wire and wire != options.backbone:
            raise BuildError(
                f"version {version} in {options.repository} serves {wire} feature maps, and all versions of a model "
                f"have the same type: build that version with --backbone {options.backbone} first, or write to another "
                "--repository"
            )
        same = entry["inputs"]["labels"], entry["inputs"]["preprocessing_sha256"]
        if same != (found.labels_sha256, found.preprocess_config.sha256):
            raise BuildError(
                f"version {version} in {options.repository} has other labels or another preprocessing config than "
                f"{found.name}, and all versions of a model share both; write to another --repository"
            )


def _export_and_validate(
    found: Weights, max_batch_size: int, folder: Path, report: Report
) -> tuple[dict[str, Path], list[ExportDifference]]:
    """Export every network into ``folder``; return network → file, and the differences from the eager network."""
    resnet50 = load_network(found.architecture, found.state_dict)
    eager = ServedNetwork(copy.deepcopy(resnet50), found.input).eval()
    lean = ServedNetwork(move_strides_up(fold_batch_norms(resnet50)), found.input).eval()
    lean.requires_grad_(requires_grad=False)
    files, opened = {}, {}
    for name, exporter in _EXPORTERS.items():
        started = time.monotonic()
        path = folder / exporter.FILENAME
        exporter.export(lean, path)
        report(f"exported {name}: {path.stat().st_size / 1e6:.0f} MB in {time.monotonic() - started:.1f} s")
        files[name], opened[name] = path, exporter.open_artifact(path)
    batches = batches_to_check(max_batch_size)
    started = time.monotonic()
    differences = check_exports(
        runner(eager), opened, images.sample(max(batches), found.preprocess_config.crop), batches
    )
    worst = max(difference.max_probability_difference for difference in differences)
    report(
        f"validated against the eager network at batches {', '.join(map(str, batches))}: probabilities differ by at "
        f"most {worst:.1e}, no top-1 differs ({time.monotonic() - started:.1f} s)"
    )
    return files, differences


def _variants_to_make(inputs: Mapping[str, Any], request: default_model.Request) -> dict[str, bool]:
    """Return the variants, and whether each must succeed: candidates of ``auto`` may miss their bound."""
    wanted = {*inputs["variants"], *(request.candidates if request.requested != AUTO else ())}
    return {name: name in wanted for name in VARIANTS if name in {*wanted, *request.candidates}}


def _path(text: str | None) -> Path | None:
    return Path(text) if text else None
