"""Checks of what is served: tensors, recipes, labels, versions."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from resnet_client._doctor._check import Check, Hits
from resnet_client._doctor._snapshot import Answered
from resnet_client._photo import Recipe
from resnet_client.requests import IMAGE, PIXELS, PROBABILITIES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from resnet_client._doctor._snapshot import Model, Snapshot

MOST_VERSIONS = 2
"""The one in service and the one to go back to."""

_LIMITS = ("max_photo_bytes", "max_photo_pixels", "max_photo_frames")
_LATEST = -1


def photos_do_not_batch(seen: Snapshot) -> Hits:
    """Photos as byte arrays of different lengths."""
    for model in (seen.models or {}).values():
        for tensor in model.inputs:
            if tensor.name == IMAGE and (tensor.type, tensor.dims) != ("TYPE_STRING", (1,)):
                yield model.name, f"{IMAGE} is {tensor.type} {list(tensor.dims)}"


def pixels_as_floats(seen: Snapshot) -> Hits:
    """Pixels that take four times the room."""
    for model in seen.computing():
        for tensor in model.inputs:
            if tensor.name == PIXELS and tensor.type != "TYPE_UINT8":
                yield model.name, f"{PIXELS} is {tensor.type}"


def recipe_missing(seen: Snapshot) -> Hits:
    """No preprocessing recipe."""
    for model in _classifying(seen):
        if not model.parameters.get("recipe"):
            yield model.name, "its config has no parameter «recipe»"


def recipe_damaged(seen: Snapshot) -> Hits:
    """A recipe that is not the one its hash was made from."""
    for model in _classifying(seen):
        if text := model.parameters.get("recipe"):
            try:
                recipe = Recipe.from_json(text)
            except (ValueError, json.JSONDecodeError) as exc:
                yield model.name, f"its recipe cannot be read: {exc}"
                continue
            if model.parameters.get("recipe_sha256") != recipe.sha256:
                yield model.name, "its recipe does not have the hash written beside it"


def recipes_differ(seen: Snapshot) -> Hits:
    """An ensemble whose steps were built from other weights."""
    for ensemble in seen.ensembles():
        for step in ensemble.steps:
            model = (seen.models or {}).get(step)
            ours, theirs = ensemble.parameters.get("recipe"), model.parameters.get("recipe") if model else None
            if ours and theirs and ours != theirs:
                yield ensemble.name, f"its recipe is {ours}, that of its step {step} is {theirs}"


def no_photo_limits(seen: Snapshot) -> Hits:
    """Photos of any size are decoded."""
    for model in seen.computing():
        takes_photos = any(tensor.name == IMAGE for tensor in model.inputs)
        if takes_photos and (missing := [name for name in _LIMITS if not model.parameters.get(name)]):
            yield model.name, f"its config has no {', '.join(missing)}"


def no_label_file(seen: Snapshot) -> Hits:
    """Classes come as numbers."""
    for model in _classifying(seen):
        for tensor in model.outputs:
            if tensor.name == PROBABILITIES and not tensor.label_file:
                yield model.name, f"its output {PROBABILITIES} has no label_filename"


def labels_incomplete(seen: Snapshot) -> Hits:
    """The label file is shorter than the list of classes."""
    for name, trial in (seen.trials or {}).items():
        model = (seen.models or {}).get(name)
        probabilities = [tensor for tensor in (model.outputs if model else ()) if tensor.name == PROBABILITIES]
        if isinstance(trial.single, Answered) and trial.single.unlabelled and probabilities:
            tensor = probabilities[0]
            if tensor.label_file:
                yield (
                    name,
                    f"{trial.single.unlabelled} of {tensor.dims[-1]} classes have no label in {tensor.label_file}",
                )


def version_pinned(seen: Snapshot) -> Hits:
    """An ensemble that goes on with an old version."""
    for ensemble in seen.ensembles():
        for step, version in ensemble.steps.items():
            loaded = seen.models[step].versions if seen.models and step in seen.models else ()
            if version != _LATEST and loaded and version != max(loaded):
                yield ensemble.name, f"it asks for version {version} of {step}; version {max(loaded)} is loaded"


def many_versions(seen: Snapshot) -> Hits:
    """Old versions stay loaded."""
    for model in (seen.models or {}).values():
        if len(model.versions) > MOST_VERSIONS:
            yield model.name, f"versions {', '.join(map(str, model.versions))} are loaded"


def version_not_loaded(seen: Snapshot) -> Hits:
    """A version that is in the repository and could not be loaded; an older one answers, or none."""
    for version in seen.unloaded or ():
        yield version.model, f"version {version.version or '(none)'} is not served: {version.reason}"


def _classifying(seen: Snapshot) -> Iterator[Model]:
    """Ensembles, their steps, and whatever else gives probabilities."""
    steps = {step for ensemble in seen.ensembles() for step in ensemble.steps}
    for model in (seen.models or {}).values():
        if model.name in steps or any(tensor.name == PROBABILITIES for tensor in model.outputs):
            yield model


CHECKS = (
    Check(
        "photos-do-not-batch",
        "slow",
        ("models",),
        photos_do_not_batch,
        "photos have different lengths, and Triton only batches inputs of one shape",
        "TYPE_STRING with dims [1]: one photo is one element, whatever its length",
    ),
    Check(
        "pixels-as-floats",
        "slow",
        ("models",),
        pixels_as_floats,
        "602 KB instead of 150 KB go through every copy, and normalisation is left to every caller",
        "TYPE_UINT8, with the normalisation in the network: build it with resnet-build",
    ),
    Check(
        "recipe-missing",
        "wrong",
        ("models",),
        recipe_missing,
        'nobody can tell how photos are to be resized and cropped; preprocessing="client" refuses to guess',
        "build the repository with resnet-build",
    ),
    Check(
        "recipe-damaged",
        "wrong",
        ("models",),
        recipe_damaged,
        "somebody edited the recipe: photos are prepared otherwise than the weights want it",
        "build the repository again with resnet-build, and do not edit recipes",
    ),
    Check(
        "recipes-differ",
        "wrong",
        ("models",),
        recipes_differ,
        "photos are prepared for other weights: a point or more of accuracy is lost without any error",
        "build all models together: resnet-build",
    ),
    Check(
        "no-photo-limits",
        "exposed",
        ("models",),
        no_photo_limits,
        "one photo of a hundred megapixels takes the memory and the time of many",
        "build the repository again: resnet-build --max-photo-pixels …",
    ),
    Check(
        "no-label-file",
        "wrong",
        ("models",),
        no_label_file,
        "callers get the class's number where its name should be",
        "name the label file in the output of its config.pbtxt, or build the repository with resnet-build",
    ),
    Check(
        "labels-incomplete",
        "wrong",
        ("models", "trials"),
        labels_incomplete,
        "the label file belongs to another network, so the labels given may be wrong, too",
        "resnet-build --labels FILE, with one line for each class",
    ),
    Check(
        "version-pinned",
        "wrong",
        ("models",),
        version_pinned,
        "the new version is loaded and never asked",
        "model_version: -1 in the ensemble's step, or unload the version that nobody is to use",
    ),
    Check(
        "many-versions",
        "slow",
        ("models",),
        many_versions,
        "each version takes memory and instances of its own",
        "version_policy { latest { num_versions: 2 } }: one in service, one to go back to",
    ),
    Check(
        "version-not-loaded",
        "wrong",
        ("unloaded",),
        version_not_loaded,
        "the repository holds what the server does not serve: a roll-out has failed without anybody noticing",
        "the reason is in the server's log; repair the version, or remove it from the repository",
    ),
)
