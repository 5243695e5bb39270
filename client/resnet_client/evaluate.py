"""Measure accuracy and speed of served models on labelled images."""

from __future__ import annotations

import collections
import csv
import dataclasses
import itertools
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from resnet_client.errors import ConfigurationError
from resnet_client.images import find, golden
from resnet_client.results import until_server_fails

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from resnet_client.client import Client

_TOP_K = 5
_ALL_CLASSES = 1_000_000  # more than any network has, so the server sends all classes


@dataclasses.dataclass(frozen=True)
class Sample:
    """An image and the index of its true class."""

    path: Path
    class_index: int


@dataclasses.dataclass(frozen=True)
class ModelReport:
    """One model on all samples.

    Attributes:
        model: its name.
        images: how many were sent.
        failures: image → message, for images that failed.
        top1: share of all images whose class came first, 0 to 1; a failed image is a miss.
        top5: share of all images whose class is among the first five, 0 to 1.
        images_per_s: throughput with ``max_in_flight`` images in flight.
        latency_ms: ``p50``, ``p95`` and ``p99`` of the images that succeeded, in milliseconds.
    """

    model: str
    images: int
    failures: dict[str, str]
    top1: float
    top5: float
    images_per_s: float
    latency_ms: dict[str, float]


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Reports, and for each pair of models (``"a and b"``) the share of images with the same top-1 class."""

    reports: list[ModelReport]
    agreement: dict[str, float]

    def to_dict(self) -> dict[str, Any]:
        """Nested dictionaries and lists, ready for JSON."""
        return dataclasses.asdict(self)


def evaluate(client: Client, samples: Sequence[Sample], models: Sequence[str], *, max_in_flight: int) -> Evaluation:
    """Classify all samples with each model in turn and compare.

    Args:
        client: connected to the server that serves the models.
        samples: at least one.
        models: their names; the client's ``model_version``, if set, applies to each.
        max_in_flight: images in flight at once.
    """
    results = {model: _measured(client, samples, model, max_in_flight) for model in models}
    pairs = itertools.combinations(results, 2)
    agreement = {f"{one} and {other}": _agreement(results[one][1], results[other][1]) for one, other in pairs}
    return Evaluation([report for report, _ in results.values()], agreement)


def read_samples(
    folder: Path, labels_csv: Path | None, class_names: Mapping[str, Sequence[int]], *, option: str = "--labels"
) -> list[Sample]:
    """The samples of a folder, by a CSV file or by one subfolder per class.

    Args:
        folder: where the images are.
        labels_csv: file with the columns ``file`` and ``class_index``, others ignored; None reads folders
            whose names are class indices or labels.
        class_names: label → its indices, of all classes of the model.
        option: how the command calls the file, for the message.

    Raises:
        ConfigurationError: something is missing or ambiguous; the message names it.
    """
    if not folder.is_dir():
        raise ConfigurationError(f"{folder} is not a folder")
    samples = _by_folder(folder, class_names) if labels_csv is None else _by_csv(folder, labels_csv)
    if not samples:
        raise ConfigurationError(_nothing(folder, labels_csv, option))
    classes = {index for indices in class_names.values() for index in indices}
    for sample in samples:
        if sample.class_index not in classes:
            raise ConfigurationError(
                f"{sample.path}: the model has no class {sample.class_index}, only {min(classes)} to {max(classes)}"
            )
    return samples


def top_k_accuracy(samples: Sequence[Sample], ranked: Sequence[Sequence[int]], k: int) -> float:
    """Share of samples whose class is among the first ``k``, 0 to 1.

    Args:
        samples: at least one.
        ranked: for each sample the indices that were found, the most probable first; none if it failed.
        k: how many indices count.
    """
    return sum(sample.class_index in found[:k] for sample, found in zip(samples, ranked, strict=True)) / len(samples)


def class_names(client: Client, model: str | None) -> dict[str, list[int]]:
    """Label → indices, as the server has them; two of ImageNet's labels have two indices."""
    names = collections.defaultdict(list)
    version = client.config.model_version
    found = client.classify(golden(), top_k=_ALL_CLASSES, model=model, model_version=version)
    for prediction in found.predictions:
        names[prediction.label].append(prediction.index)
    return {label: sorted(indices) for label, indices in names.items()}


def _measured(
    client: Client, samples: Sequence[Sample], model: str, max_in_flight: int
) -> tuple[ModelReport, list[int | None]]:
    paths = [sample.path for sample in samples]
    started_s = time.perf_counter()
    version = client.config.model_version
    found = client.classify_many(paths, max_in_flight=max_in_flight, top_k=_TOP_K, model=model, model_version=version)
    outcomes = list(until_server_fails(found))
    elapsed_s = time.perf_counter() - started_s
    ranked = [[p.index for p in o.result.predictions] if o.ok else [] for o in outcomes]
    latencies_ms = [outcome.duration_s * 1000 for outcome in outcomes if outcome.ok]
    report = ModelReport(
        model=model,
        images=len(samples),
        failures={str(o.source): str(o.error) for o in outcomes if o.error is not None},
        top1=top_k_accuracy(samples, ranked, 1),
        top5=top_k_accuracy(samples, ranked, _TOP_K),
        images_per_s=len(latencies_ms) / elapsed_s,
        latency_ms={f"p{p}": float(np.percentile(latencies_ms, p)) for p in (50, 95, 99) if latencies_ms},
    )
    return report, [found[0] if found else None for found in ranked]


def _agreement(one: Sequence[int | None], other: Sequence[int | None]) -> float:
    both = [(a, b) for a, b in zip(one, other, strict=True) if a is not None and b is not None]
    return sum(a == b for a, b in both) / len(both) if both else 0.0


def _by_csv(folder: Path, labels_csv: Path) -> list[Sample]:
    try:
        with labels_csv.open(newline="", encoding="utf-8-sig") as file:  # Excel writes a byte order mark
            rows = csv.DictReader(file)
            _check_columns(labels_csv, rows.fieldnames)
            return [_sample(folder, row, f"{labels_csv}, line {rows.line_num}") for row in rows]
    except (OSError, UnicodeDecodeError, csv.Error) as exc:
        raise ConfigurationError(f"{labels_csv} cannot be read: {exc}") from exc


def _check_columns(labels_csv: Path, names: Sequence[str] | None) -> None:
    missing = {"file", "class_index"}.difference(names or ())
    if missing:
        raise ConfigurationError(
            f"{labels_csv} needs the columns file and class_index, named in its first line and separated by commas; "
            f"missing: {' and '.join(sorted(missing))}"
        )


def _sample(folder: Path, row: Mapping[str, str | None], where: str) -> Sample:
    name, index = row["file"], row["class_index"]
    try:
        return Sample(folder / (name or ""), int(index or ""))
    except ValueError as exc:
        raise ConfigurationError(f"{where}: class_index must be an integer, not {index!r}") from exc


def _by_folder(folder: Path, names: Mapping[str, Sequence[int]]) -> list[Sample]:
    return [
        Sample(path, _class_index(subfolder.name, names))
        for subfolder in sorted(folder.iterdir())
        if subfolder.is_dir()
        for path in find(subfolder)
    ]


def _nothing(folder: Path, labels_csv: Path | None, option: str) -> str:
    """Why there is no sample, and what is expected."""
    if labels_csv is not None:
        return f"{labels_csv} names no image; expected one line per image below the line of column names"
    expected = f"expected one folder per class, named by its index or label, or {option} FILE"
    if count := sum(1 for _ in find(folder)):
        images = "1 image" if count == 1 else f"{count} images"
        return f"{folder} has {images}, but no folders of classes; {expected}"
    return f"there is no image in {folder}; {expected}"


def _class_index(name: str, names: Mapping[str, Sequence[int]]) -> int:
    if name.isdecimal():
        return int(name)
    indices = names.get(name, ())
    if len(indices) == 1:
        return indices[0]
    if not indices:
        raise ConfigurationError(f"the folder {name!r} is neither a class index nor a label of the model")
    choices = " or ".join(map(str, indices))
    raise ConfigurationError(f"several classes have the label {name!r}; name the folder {choices}")
