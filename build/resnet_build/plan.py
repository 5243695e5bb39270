"""What a build has to do: its options, the weights, and what the repository holds already."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from resnet_client.evaluate import Sample

from resnet_build import (
    BuildError,
    Report,
    UsageError,
    backbone,
    configs,
    default_model,
    gpu,
    images,
    labelled_accuracy,
    manifest,
    weights,
)
from resnet_build.repository import Repository
from resnet_build.serving_options import VARIANTS, ServingOptions
from resnet_build.weights import FileOptions, Weights


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
        default: network of ``resnet50``, one of ``DEFAULT_MODELS``; None for what was requested before, else ``onnx``.
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
    def chooses_again(self) -> bool:
        """Whether to choose the default model again, even if an earlier build did."""
        return self.force or self.accuracy is not None

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


def check(options: BuildOptions) -> None:
    """Check what can be checked without the weights.

    Raises:
        UsageError: an option is invalid.
    """
    weights.check(options.weights, options.file_options)
    if options.accuracy and not options.accuracy.images.is_dir():
        raise UsageError(f"the folder {options.accuracy.images} of --accuracy-images does not exist")
    if options.calibration_images:
        request = default_model.request(manifest.read(options.repository), options.default, again=options.chooses_again)
        if "int8" not in {*options.all_variants, *request.candidates}:
            raise UsageError("--calibration-images requires --variant int8, or --default-model int8 or auto")
        images.calibration_files(options.calibration_images)


@dataclasses.dataclass(frozen=True)
class Plan:
    """A build whose weights are loaded.

    Attributes:
        options: what was requested.
        record: the manifest of earlier builds.
        weights: those to build.
        inputs: everything that determines the result; equal inputs need no new build.
        request: the network of ``resnet50``.
        samples: labelled images to measure on.
    """

    options: BuildOptions
    record: manifest.Manifest
    weights: Weights
    inputs: dict[str, Any]
    request: default_model.Request
    samples: list[Sample]

    @property
    def variants(self) -> dict[str, bool]:
        """The variants to make, and whether each must succeed: candidates of ``auto`` may miss their bound."""
        wanted = {*self.inputs["variants"], *(() if self.request.has_bound else self.request.candidates)}
        return {name: name in wanted for name in VARIANTS if name in {*wanted, *self.request.candidates}}

    def is_up_to_date(self) -> bool:
        """Whether the repository is what this build would write."""
        options, record = self.options, self.record
        requested, _ = default_model.recorded(record)
        return (
            not options.force
            and not self.samples
            and manifest.inputs_of(record, options.model_version) == self.inputs
            and record.get("serving") == dataclasses.asdict(options.serving)
            and gpu.chosen(record, options.gpu) == gpu.chosen(record, {})
            and (options.default or requested) == requested
            and self.repository(record).is_complete()
            and manifest.has_artifacts(options.repository, record, options.model_version)
        )

    def check(self) -> None:
        """Check what depends on the weights.

        Raises:
            UsageError: there are too few labelled images.
            BuildError: another version has other labels or preprocessing; versions of a model share its config.
        """
        self._refuse_mixture()
        if self.samples:
            self.request.check_samples(len(self.samples))

    def _refuse_mixture(self) -> None:
        options, found = self.options, self.weights
        for version, entry in self.record["versions"].items():
            if version == str(options.model_version):
                continue
            wire = entry["inputs"].get("backbone")
            if options.backbone and wire and wire != options.backbone:
                raise BuildError(
                    f"version {version} in {options.repository} serves {wire} feature maps, and all versions of a "
                    f"model have the same type: build that version with --backbone {options.backbone} first, or write "
                    "to another --repository"
                )
            same = entry["inputs"]["labels"], entry["inputs"]["preprocessing_sha256"]
            if same != (found.labels_sha256, found.preprocess_config.sha256):
                raise BuildError(
                    f"version {version} in {options.repository} has other labels or another preprocessing config than "
                    f"{found.name}, and all versions of a model share both; write to another --repository"
                )

    def calibration_set(self) -> images.CalibrationSet | None:
        """Preprocess the images that the variants need; None without variants."""
        folder = self.inputs["calibration_images"]
        if not self.variants:
            return None
        return images.calibration_set(Path(folder) if folder else None, self.weights.preprocess_config)

    def repository(self, record: manifest.Manifest) -> Repository:
        """Return the repository that a manifest describes, with these weights."""
        inputs = manifest.inputs_of(record, self.options.model_version)
        return Repository(
            self.options.repository,
            labels=self.weights.labels,
            preprocess_config=self.weights.preprocess_config,
            serving=self.options.serving,
            gpu_options=gpu.chosen(record, {}),
            variants=tuple(inputs["variants"]),
            default=default_model.recorded(record)[1],
            wire=inputs["backbone"],
        )


def make(options: BuildOptions, report: Report) -> Plan:
    """Load the weights, and compare the options with earlier builds.

    Raises:
        BuildError: the weights cannot be loaded.
    """
    record = manifest.read(options.repository)
    found = _find_weights(options, record, report)
    return Plan(
        options,
        record,
        found,
        _inputs(options, record, found),
        default_model.request(record, options.default, again=options.chooses_again, weights=found.sha256),
        options.accuracy.samples(found.labels) if options.accuracy else [],
    )


def _find_weights(options: BuildOptions, record: manifest.Manifest, report: Report) -> Weights:
    spec = options.weights
    previous = manifest.inputs_of(record, options.model_version).get("weights", {})
    if spec == "auto" and not options.force and previous.get("requested") == "auto":
        # Later builds keep the weights chosen first; otherwise answers would change when a download works again.
        spec = previous["name"]
    return weights.load(spec, cache=options.cache, file_options=options.file_options, report=report)


def _inputs(options: BuildOptions, record: manifest.Manifest, found: Weights) -> dict[str, Any]:
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
