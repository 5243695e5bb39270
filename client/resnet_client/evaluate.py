"""Measure accuracy and speed of served models on labelled images."""

from __future__ import annotations

import collections
import csv
import dataclasses
import itertools
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from resnet_client.accuracy import Bin, Comparison, calibration, calibration_error, compare, wilson_interval
from resnet_client.errors import ConfigurationError
from resnet_client.images import find, golden
from resnet_client.results import until_server_fails

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from resnet_client.client import Client
    from resnet_client.results import Prediction

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
        failures: image → message, for images without a result; nothing below counts them.
        top1: share of the images with a result whose class came first, 0 to 1.
        top1_interval: its 95 % interval.
        top5: share of the images with a result whose class is among the first five, 0 to 1.
        top5_interval: its 95 % interval.
        calibration_error: expected calibration error, 0 to 1.
        images_per_s: throughput with ``max_in_flight`` images in flight.
        latency_ms: ``p50``, ``p95`` and ``p99``, in milliseconds.
    """

    model: str
    images: int
    failures: dict[str, str]
    top1: float
    top1_interval: tuple[float, float]
    top5: float
    top5_interval: tuple[float, float]
    calibration_error: float
    images_per_s: float
    latency_ms: dict[str, float]


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """All models on all samples.

    Attributes:
        samples: the images and their classes.
        predictions: model → the five most probable classes of each sample; none if the sample failed.
        reports: one for each model.
        comparisons: one for each pair of models.
    """

    samples: Sequence[Sample]
    predictions: dict[str, list[tuple[Prediction, ...]]]
    reports: list[ModelReport]
    comparisons: list[Comparison]

    def answered(self, model: str) -> list[tuple[Sample, tuple[Prediction, ...]]]:
        """The samples that succeeded, with their predictions."""
        return _answered(self.samples, self.predictions[model])

    def mistakes(self, model: str) -> list[tuple[Sample, tuple[Prediction, ...]]]:
        """The samples whose top-1 class is wrong, with their predictions."""
        return [(sample, found) for sample, found in self.answered(model) if found[0].index != sample.class_index]

    def calibration(self, model: str) -> list[Bin]:
        """Probability compared with accuracy, in bins."""
        return _calibration(self.answered(model))

    def to_dict(self) -> dict[str, Any]:
        """Reports and comparisons, ready for JSON."""
        return {name: [dataclasses.asdict(each) for each in getattr(self, name)] for name in ("reports", "comparisons")}

    def rows(self) -> list[dict[str, str]]:
        """A table with one row per model: column → text."""
        return [
            {
                "model": report.model,
                "images": str(report.images),
                "failed": str(len(report.failures)),
                "top-1": f"{report.top1:.4f}",
                "top-5": f"{report.top5:.4f}",
                "images/s": f"{report.images_per_s:.1f}",
                **{f"{name} ms": f"{latency_ms:.1f}" for name, latency_ms in report.latency_ms.items()},
            }
            for report in self.reports
        ]


def evaluate(client: Client, samples: Sequence[Sample], models: Sequence[str], *, max_in_flight: int) -> Evaluation:
    """Classify all samples with each model in turn and compare.

    Args:
        client: connected to the server that serves the models.
        samples: at least one.
        models: their names; the client's ``model_version``, if set, applies to each.
        max_in_flight: images in flight at once.

    Raises:
        ResnetClientError: a model has no result for any image, or its server keeps failing.
    """
    reports, predictions = [], {}
    for model in models:
        report, predictions[model] = _measured(client, samples, model, max_in_flight)
        reports.append(report)
    comparisons = [_compared(samples, predictions, *pair) for pair in itertools.combinations(predictions, 2)]
    return Evaluation(samples, predictions, reports, comparisons)


def _compared(
    samples: Sequence[Sample], predictions: Mapping[str, Sequence[tuple[Prediction, ...]]], first: str, second: str
) -> Comparison:
    answers = zip(samples, predictions[first], predictions[second], strict=True)
    return compare(first, second, [(sample.class_index, a[0].index, b[0].index) for sample, a, b in answers if a and b])


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
        raise ConfigurationError(
            f"{labels_csv or folder} names no image; expected one folder per class, named by its index or label, or "
            f"{option} FILE with one line per image"
        )
    classes = {index for indices in class_names.values() for index in indices}
    for sample in samples:
        if sample.class_index not in classes:
            raise ConfigurationError(
                f"{sample.path}: the model has no class {sample.class_index}, only {min(classes)} to {max(classes)}"
            )
    return samples


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
) -> tuple[ModelReport, list[tuple[Prediction, ...]]]:
    paths = [sample.path for sample in samples]
    started_s = time.perf_counter()
    version = client.config.model_version
    found = client.classify_many(paths, max_in_flight=max_in_flight, top_k=_TOP_K, model=model, model_version=version)
    outcomes = list(until_server_fails(found))
    elapsed_s = time.perf_counter() - started_s
    answered = [outcome for outcome in outcomes if outcome.ok]
    if not answered and outcomes[0].error is not None:
        raise outcomes[0].error
    predictions = [outcome.result.predictions if outcome.ok else () for outcome in outcomes]
    pairs = _answered(samples, predictions)
    top1, top5 = (np.mean([_is_among(found[:k], sample) for sample, found in pairs]) for k in (1, _TOP_K))
    latencies_ms = [outcome.duration_s * 1000 for outcome in answered]
    report = ModelReport(
        model=model,
        images=len(samples),
        failures={str(outcome.source): str(outcome.error) for outcome in outcomes if not outcome.ok},
        top1=float(top1),
        top1_interval=wilson_interval(float(top1), len(answered)),
        top5=float(top5),
        top5_interval=wilson_interval(float(top5), len(answered)),
        calibration_error=calibration_error(_calibration(pairs)),
        images_per_s=len(answered) / elapsed_s,
        latency_ms={f"p{p}": float(np.percentile(latencies_ms, p)) for p in (50, 95, 99)},
    )
    return report, predictions


def _is_among(found: Sequence[Prediction], sample: Sample) -> bool:
    return sample.class_index in [prediction.index for prediction in found]


def _answered(
    samples: Sequence[Sample], predictions: Sequence[tuple[Prediction, ...]]
) -> list[tuple[Sample, tuple[Prediction, ...]]]:
    return [(sample, found) for sample, found in zip(samples, predictions, strict=True) if found]


def _calibration(answered: Sequence[tuple[Sample, tuple[Prediction, ...]]]) -> list[Bin]:
    return calibration([(found[0].probability, found[0].index == sample.class_index) for sample, found in answered])


def _by_csv(folder: Path, labels_csv: Path) -> list[Sample]:
    try:
        with labels_csv.open(newline="", encoding="utf-8-sig") as file:  # Excel writes a byte order mark
            rows = csv.DictReader(file)
            if not {"file", "class_index"}.issubset(rows.fieldnames or ()):
                raise ConfigurationError(
                    f"{labels_csv} needs the columns file and class_index, named in its first line, with commas between"
                )
            return [_sample(folder, row, f"{labels_csv}, line {rows.line_num}") for row in rows]
    except (OSError, UnicodeDecodeError, csv.Error) as exc:
        raise ConfigurationError(f"{labels_csv} cannot be read: {exc}") from exc


def _sample(folder: Path, row: Mapping[str, str | None], where: str) -> Sample:
    try:
        return Sample(folder / (row["file"] or ""), int(row["class_index"] or ""))
    except ValueError as exc:
        raise ConfigurationError(f"{where}: class_index must be an integer, not {row['class_index']!r}") from exc


def _by_folder(folder: Path, names: Mapping[str, Sequence[int]]) -> list[Sample]:
    return [
        Sample(path, _class_index(subfolder.name, names))
        for subfolder in sorted(folder.iterdir())
        if subfolder.is_dir()
        for path in find(subfolder)
    ]


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
