"""The build, step by step: weights → exports → parity → repository."""

from __future__ import annotations

import copy
import dataclasses
import datetime
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from resnet_client.model_configs import GPU, LOCAL, TUNED, models_with, named_config

from resnet_build import (
    backbone,
    configs,
    door,
    export_onnx,
    export_torchscript,
    gpu,
    manifest,
    parity,
    photos,
    python_models,
    variants,
)
from resnet_build.errors import BuildError, LateInterrupt, UsageError
from resnet_build.network import ServedNetwork, check_shapes, fold_batch_norms, load_network, move_strides_up
from resnet_build.options import AUTO, PLAIN, VARIANTS, ServingOptions
from resnet_build.quantize import calibration
from resnet_build.repository import Publication, is_unfinished, locked, publication
from resnet_build.weights import FileOptions, Weights, check, load

Report = Callable[[str], None]

# Network → the module that exports it.
EXPORTERS: Mapping[str, ModuleType] = {
    "network_onnx": export_onnx,
    "network_torchscript": export_torchscript,
}
_PYTHON_FILES = python_models.preprocess_files()


@dataclasses.dataclass(frozen=True)
class BuildOptions:
    """What to build, and where to.

    Attributes:
        weights: the value of ``--weights``.
        file_options: what a state dict from a file does not say itself.
        serving: what of the serving can be chosen.
        repository: the model repository to write.
        cache: folder for downloaded weights.
        model_version: version folder to write; others stay beside it.
        force: build even if nothing has changed.
        variants: what to build beside the default networks; those that the repository holds stay.
        calibration_images: folder of photos for ``int8``; None for what was used before, else shipped photos.
        door: what the default door ends in, of ``options.DOORS``; None for what was asked for before, else ``onnx``.
        backbone: type of the feature maps to serve; None for what was served before, else no maps.
        gpu: what of :class:`gpu.GpuOptions` was asked for; the rest is as before.
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
    door: str | None = None
    backbone: backbone.Wire | None = None
    gpu: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def all_variants(self) -> tuple[str, ...]:
        """Those asked for, and those already there: a build must not leave an old network behind in one."""
        wanted = {*self.variants, *(name for name in VARIANTS if _is_there(self.repository / configs.network_of(name)))}
        return tuple(name for name in VARIANTS if name in wanted)


def _is_there(model: Path) -> bool:
    """Whether there is a configuration or an artifact: a folder alone can be what a killed build left."""
    return any(model.glob("config.pbtxt")) or any(model.glob("*/model.*"))


def build(options: BuildOptions, report: Report) -> bool:
    """Build the repository unless it is up to date.

    Args:
        options: what to build.
        report: receives one sentence per step.

    Returns:
        Whether anything was written.

    Raises:
        UsageError: an option makes no sense; not even the folder was made.
        BuildError: nothing was written; the message names the cause and the remedy.
        LateInterrupt: Ctrl-C came when everything was written; before that it is a plain KeyboardInterrupt.
    """
    _check(options)
    with locked(options.repository, report):
        before = manifest.stamp(options.repository)
        try:
            return _build(options, report)
        except KeyboardInterrupt as exc:
            # The manifest is written last.
            if manifest.stamp(options.repository) == before:
                raise
            raise LateInterrupt from exc


def _check(options: BuildOptions) -> None:
    check(options.weights, options.file_options)
    if options.calibration_images:
        wish = _wish(options, manifest.read(options.repository))
        if "int8" not in {*options.all_variants, *wish.candidates}:
            raise UsageError("--calibration-images is for --variant int8")
        calibration.images_of(options.calibration_images)


def _build(options: BuildOptions, report: Report) -> bool:
    record = manifest.read(options.repository)
    wish = _wish(options, record)
    found = _find_weights(options, record, report)
    check_shapes(found.state_dict)  # before its values are hashed
    inputs = _inputs(options, record, found)
    if (
        not options.force
        and wish.requested == _requested_before(record)
        and is_up_to_date(options, found, record, inputs)
    ):
        report(f"{options.repository} is up to date ({found.name}); --force builds it again")
        return False
    _refuse_mixture(options, record, found)
    names = _variants_to_make(inputs, wish)
    # Before the export, which takes longer than to find that a photo is missing.
    images = _calibration_set(inputs, found) if names else None
    with tempfile.TemporaryDirectory(prefix="resnet-build-") as folder:
        exported, results = _export_and_check(found, options.serving.max_batch_size, Path(folder), report)
        made, decision = _vary(names, wish, images, exported["network_onnx"], report)
        # Candidates that lose stay out.
        made = {name: built for name, built in made.items() if name in {*inputs["variants"], decision.variant}}
        exported |= {configs.network_of(name): variant.path for name, variant in made.items()}
        maps = backbone.build(found, inputs["backbone"], Path(folder), report) if inputs["backbone"] else None
        if maps:
            exported[backbone.NETWORK] = maps.path
        artifacts = {f"{network}/{options.model_version}/{path.name}": path for network, path in exported.items()}
        # The configurations are common to all versions, so their options are recorded once.
        record["serving"] = dataclasses.asdict(options.serving)
        record["gpu"] = dataclasses.asdict(gpu.chosen(record, options.gpu))
        # A decision that stays keeps the figures by which it was made.
        record["door"] = (record["door"] if wish.previous else {}) | decision.record
        record["versions"][str(options.model_version)] = {
            "inputs": inputs | {"variants": list(made)},
            "built_at": datetime.datetime.now(tz=datetime.UTC).isoformat(timespec="seconds"),
            "artifacts": {name: manifest.sha256(path) for name, path in artifacts.items()},
            "parity": [dataclasses.asdict(result) for result in results],
            "variants": {name: variant.record for name, variant in made.items()},
            "backbone": maps.record if maps else None,
        }
        stale = _publish(options, found, artifacts, record)
    report(f"wrote {options.repository}")
    if stale:
        report(
            f"removed tuned config of {', '.join(stale)} (measured with other options); "
            "run `resnet-loadtest tune` again"
        )
    return True


def _wish(options: BuildOptions, record: manifest.Manifest) -> door.Wish:
    """What the default door shall end in; what ``auto`` decided once stays, as with weights."""
    requested = options.door or _requested_before(record)
    if options.force or requested != AUTO or _requested_before(record) != AUTO:
        return door.Wish(requested)
    return door.Wish(requested, _variant(record))


def _variant(record: manifest.Manifest) -> str:
    """What the default door ends in, as recorded."""
    network = record.get("door", {}).get("network", configs.network_of(PLAIN))
    return str(network).removeprefix(configs.network_of(""))


def _requested_before(record: manifest.Manifest) -> str:
    return str(record.get("door", {}).get("requested", PLAIN))


def _find_weights(options: BuildOptions, record: manifest.Manifest, report: Report) -> Weights:
    spec = options.weights
    previous = record["versions"].get(str(options.model_version), {}).get("inputs", {}).get("weights", {})
    if spec == "auto" and not options.force and previous.get("requested") == "auto":
        # What was taken once stays: a network that comes back must not change the answers by itself.
        spec = previous["name"]
    return load(spec, cache=options.cache, file_options=options.file_options, report=report)


def _inputs(options: BuildOptions, record: manifest.Manifest, found: Weights) -> dict[str, Any]:
    """Everything that decides on the result; equal inputs need no new build."""
    previous = record["versions"].get(str(options.model_version), {}).get("inputs", {})
    folder = options.calibration_images
    return {
        "weights": {
            "requested": options.weights,
            "name": found.name,
            "source": found.source,
            "architecture": found.architecture,
            "sha256": found.sha256,
        },
        "classes": len(found.labels),
        "labels": configs.hash_labels(found.labels),
        "recipe": dataclasses.asdict(found.recipe),
        "recipe_sha256": found.recipe.sha256,
        "variants": list(options.all_variants),
        "calibration_images": str(folder.resolve()) if folder else previous.get("calibration_images"),
        "backbone": options.backbone or _wire_there(record),
        "tools": manifest.tool_versions(),
    }


def _wire_there(record: manifest.Manifest) -> backbone.Wire | None:
    """Type of the maps that the repository serves: versions share the configuration, and so the type."""
    wires = {entry["inputs"].get("backbone") for entry in record["versions"].values()}
    return next((wire for wire in ("fp32", "fp16") if wire in wires), None)


def is_up_to_date(options: BuildOptions, found: Weights, record: manifest.Manifest, inputs: dict[str, Any]) -> bool:
    """Whether the repository is what a build with these inputs would write."""
    if is_unfinished(options.repository):
        return False
    entry = record["versions"].get(str(options.model_version))
    if entry is None or entry["inputs"] != inputs or record.get("serving") != dataclasses.asdict(options.serving):
        return False
    wanted = gpu.chosen(record, options.gpu)
    if wanted != gpu.chosen(record, {}):
        return False
    # The small files only have to exist: who edits a configuration by hand must not lose that to the next build.
    texts = config_files(options, found, record)
    small_files = (*texts, *_small_files(inputs, _variant(record)), *gpu.file_names(wanted))
    if not all((options.repository / name).exists() for name in small_files):
        return False
    recorded = {options.repository / name: digest for name, digest in entry["artifacts"].items()}
    return all(path.exists() and manifest.sha256(path) == digest for path, digest in recorded.items())


def _small_files(inputs: Mapping[str, Any], door_variant: str) -> list[str]:
    """Everything that a repository needs in addition to artifacts and configs."""
    ensembles = configs.ensembles(inputs["variants"], door_variant)
    return [
        *(f"{model}/{configs.LABELS_FILENAME}" for model in (*ensembles.values(), *ensembles)),
        *(f"{configs.PREPROCESS}/1/{name}" for name in _PYTHON_FILES),
        *(f"{ensemble}/1" for ensemble in ensembles),
    ]


def _refuse_mixture(options: BuildOptions, record: manifest.Manifest, found: Weights) -> None:
    """Versions of a model share its configuration: labels and recipe must be the same."""
    for version, entry in record["versions"].items():
        if version == str(options.model_version):
            continue
        wire = entry["inputs"].get("backbone")
        if options.backbone and wire and wire != options.backbone:
            raise BuildError(
                f"version {version} in {options.repository} serves {wire} maps, and versions of a model share their "
                f"types: build it with --backbone {options.backbone} first, or write to another --repository"
            )
        same = entry["inputs"]["labels"], entry["inputs"]["recipe_sha256"]
        if same != (configs.hash_labels(found.labels), found.recipe.sha256):
            raise BuildError(
                f"version {version} in {options.repository} has other labels or another preprocessing recipe than "
                f"{found.name}, and versions of a model share both; write to another --repository"
            )


def _export_and_check(
    found: Weights, max_batch_size: int, folder: Path, report: Report
) -> tuple[dict[str, Path], list[parity.Parity]]:
    """Export every network into ``folder``; return name in the repository → file, and the parity figures."""
    backbone = load_network(found.architecture, found.state_dict)
    eager = ServedNetwork(copy.deepcopy(backbone)).eval()
    lean = ServedNetwork(move_strides_up(fold_batch_norms(backbone))).eval().requires_grad_(requires_grad=False)
    files, runners = {}, {}
    for name, exporter in EXPORTERS.items():
        started = time.monotonic()
        path = folder / exporter.FILENAME
        exporter.export(lean, path)
        report(f"exported {name}: {path.stat().st_size / 1e6:.0f} MB in {time.monotonic() - started:.1f} s")
        files[name], runners[name] = path, exporter.Runner(path)
    batches = parity.batches_to_check(max_batch_size)
    started = time.monotonic()
    pixels = photos.sample_pixels(max(batches), found.recipe)
    with torch.inference_mode():
        results = parity.check(eager, runners, pixels, batches)
    worst = max(result.max_probability_difference for result in results)
    report(
        f"parity with the eager network at batches {', '.join(map(str, batches))}: probabilities differ by at most "
        f"{worst:.1e}, no top-1 differs ({time.monotonic() - started:.1f} s)"
    )
    return files, results


def _variants_to_make(inputs: Mapping[str, Any], wish: door.Wish) -> dict[str, bool]:
    """Return the variants, and whether each must succeed: candidates for the door may be too far away."""
    wanted = {*inputs["variants"], *(wish.candidates if wish.requested != AUTO else ())}
    return {name: name in wanted for name in VARIANTS if name in {*wanted, *wish.candidates}}


def _calibration_set(inputs: Mapping[str, Any], found: Weights) -> calibration.CalibrationSet:
    folder = inputs["calibration_images"]
    return calibration.load(Path(folder) if folder else None, found.recipe)


def _vary(
    names: Mapping[str, bool],
    wish: door.Wish,
    images: calibration.CalibrationSet | None,
    source: Path,
    report: Report,
) -> tuple[dict[str, variants.Built], door.Decision]:
    """Make the variants, and decide what the default door ends in."""
    made, pixels = {}, None
    if images is not None:
        made, pixels = variants.build(names, source, images, source.parent, report), images.evaluation
    decision = door.decide(wish, source, made, pixels)
    report(str(decision))
    return made, decision


def _publish(
    options: BuildOptions, found: Weights, artifacts: Mapping[str, Path], record: manifest.Manifest
) -> list[str]:
    """Write the repository; return the models whose tuned config was removed because it no longer fits."""
    labels = "".join(f"{label}\n" for label in found.labels)
    made, door_variant = record["versions"][str(options.model_version)]["inputs"]["variants"], _variant(record)
    ensembles = configs.ensembles(made, door_variant)
    with publication(options.repository) as files:
        for name, path in artifacts.items():
            files.copy(name, path)
        for name, source in _PYTHON_FILES.items():
            files.copy(f"{configs.PREPROCESS}/1/{name}", source)
        for ensemble in ensembles:
            files.folder(f"{ensemble}/1")
        texts = config_files(options, found, record)
        stale = _remove_old_configs(files, options.repository, texts)
        texts |= {f"{model}/{configs.LABELS_FILENAME}": labels for model in (*ensembles, *ensembles.values())}
        if f"{backbone.ENSEMBLE}/config.pbtxt" in texts:
            files.folder(f"{backbone.ENSEMBLE}/1")
        if f"{gpu.DOOR}/config.pbtxt" in texts:
            files.folder(f"{gpu.DOOR}/1")
            texts |= {f"{gpu.DOOR}/{configs.LABELS_FILENAME}": labels}
            texts |= dict(gpu.small_files(found.recipe, options.serving.max_batch_size))
        else:
            for model in gpu.MODELS:
                files.remove(model)  # of a build with DALI before: they would go on with its labels and recipe
        for name, text in texts.items():
            files.write(name, text)
        if door_variant == PLAIN:
            files.remove(configs.ensemble_of(PLAIN))  # of a door that ended in a variant before
        # Last: what it tells is true only when all the rest is there.
        files.write(manifest.FILENAME, manifest.to_json(record))
    return stale


def _remove_old_configs(files: Publication, repository: Path, texts: Mapping[str, str]) -> list[str]:
    """Remove named configs that this build does not write; return the models whose tuned config is among them.

    A tuned config is a copy of another one, with a setting that was measured while all others were as they were.
    """
    named = {str(named_config(Path(), model, name)) for name in (LOCAL, GPU) for model in models_with(repository, name)}
    old = named - texts.keys()
    changed = old or not all(_has(repository / path, text) for path, text in texts.items())
    stale = models_with(repository, TUNED) if changed else []
    for path in (*old, *(str(named_config(Path(), model, TUNED)) for model in stale)):
        files.remove(path)
    return stale


def _has(path: Path, text: str) -> bool:
    return path.exists() and path.read_text(encoding="utf-8") == text


def config_files(options: BuildOptions, found: Weights, record: manifest.Manifest) -> dict[str, str]:
    """Every config, path in the repository → text.

    ``config.pbtxt`` of the models that every repository has is always the same, as it is committed. What these weights
    and options need instead has a name, ``local``, and with what is for GPU hosts only, ``gpu``.
    """
    inputs = record["versions"][str(options.model_version)]["inputs"]
    local = configs.render_all(options.serving, found.recipe, len(found.labels), inputs["variants"], _variant(record))
    if wire := inputs["backbone"]:
        local |= backbone.render(local, options.serving, wire)
    for_gpu = gpu.adapt(local, gpu.chosen(record, {}))
    default = {**for_gpu, **local, **configs.render_default()}
    texts = {f"{model}/config.pbtxt": text for model, text in default.items()}
    for name, rendered in ((LOCAL, local), (GPU, for_gpu)):
        named = {model: text for model, text in rendered.items() if text != default[model]}
        texts |= {str(named_config(Path(), model, name)): text for model, text in named.items()}
    return texts
