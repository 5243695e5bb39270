"""The page of an evaluation: accuracy, calibration, mistakes, confused classes, and images on which models differ."""

from __future__ import annotations

import collections
import datetime
from collections.abc import Mapping, Sequence

import numpy as np

from resnet_client.accuracy import Bin, Comparison
from resnet_client.evaluate import Evaluation, ModelReport, Sample
from resnet_client.report.charts import Json, bars, chart, line
from resnet_client.report.page import Bar, Card, Page, Section, thumbnail
from resnet_client.results import Prediction

_CARDS = 20
_PAIRS = 20


def page(evaluation: Evaluation, class_names: Mapping[str, Sequence[int]], subtitle: str) -> Page:
    """The page of an evaluation.

    Args:
        evaluation: of one model, or of several that are compared.
        class_names: label → its indices, of all classes.
        subtitle: server and images.
    """
    labels = {index: f"{label} ({index})" for label, indices in class_names.items() for index in indices}
    models = [report.model for report in evaluation.reports]
    return Page(
        title=f"Accuracy of {' and '.join(models)}",
        subtitle=f"{subtitle} · {datetime.datetime.now().astimezone().isoformat(timespec='seconds')}",
        message=" ".join(map(_difference, evaluation.comparisons)),
        tiles=_tiles(evaluation.reports),
        charts=[_calibration(model, evaluation.calibration(model)) for model in models],
        sections=[
            Section("Models", "Failed images are not counted as wrong.", evaluation.rows()),
            _comparisons(evaluation.comparisons),
            *(_differences(evaluation, each, labels) for each in evaluation.comparisons),
            *(_mistakes(evaluation, model, labels) for model in models),
            _confused(evaluation, labels),
            _classes(evaluation, labels),
        ],
    )


def _tiles(reports: Sequence[ModelReport]) -> list[tuple[str, str, str]]:
    shares = [(f"top-1, {each.model}", each.top1, each.top1_interval) for each in reports]
    shares += [(f"top-5, {each.model}", each.top5, each.top5_interval) for each in reports]
    tiles = [(name, f"{share:.2%}", f"95 % interval: {low:.2%} to {high:.2%}") for name, share, (low, high) in shares]
    errors = [(f"calibration error, {each.model}", f"{each.calibration_error:.4f}") for each in reports]
    return tiles + [(*error, "expected, 10 bins") for error in errors]


def _difference(each: Comparison) -> str:
    name = f"Top-1 of {each.first} minus {each.second}"
    return f"{name}: {100 * each.difference:+.2f} points (95 % interval: {_in_points(each.difference_interval)})."


def _in_points(interval: tuple[float, float]) -> str:
    return f"{100 * interval[0]:+.2f} to {100 * interval[1]:+.2f}"


def _calibration(model: str, bins: Sequence[Bin]) -> Json:
    middles = [each.low + 1 / (2 * len(bins)) for each in bins]
    shares = [each.right / each.images if each.images else None for each in bins]
    counts = {"hovertext": [f"{each.images} images" for each in bins]}
    traces = [
        bars("accuracy", middles, shares, "--p95") | counts,
        line("perfect calibration", [0, 1], [0, 1], "--offered", dash="dash"),
    ]
    note = "Below the dashed line, the model is overconfident."
    axes = {"xaxis": {"range": [0, 1]}, "yaxis": {"range": [0, 1.02]}}
    x, y = "probability of the top-1 class", "share that is right"
    return chart(f"Calibration of {model}", note, traces, x, y, **axes)


def _comparisons(comparisons: Sequence[Comparison]) -> Section:
    rows = [
        {
            "models": f"{each.first} and {each.second}",
            "same top-1 class": f"{each.agreement:.4f}",
            "only the first is right": str(each.only_first_right),
            "only the second is right": str(each.only_second_right),
            "difference in top-1, points": f"{100 * each.difference:+.2f}",
            "95 % interval": _in_points(each.difference_interval),
            "p (McNemar)": f"{each.p_value:.3f}",
        }
        for each in comparisons
    ]
    return Section("Comparison", "Paired, image by image. With p above 0.05, the difference may be chance.", rows)


def _differences(evaluation: Evaluation, compared: Comparison, labels: Mapping[int, str]) -> Section:
    models = compared.first, compared.second
    answers = zip(evaluation.samples, *(evaluation.predictions[model] for model in models), strict=True)
    different = [(sample, (a[0], b[0])) for sample, a, b in answers if a and b and a[0].index != b[0].index]
    different.sort(key=lambda pair: -max(top.probability for top in pair[1]))
    cards = [
        _card(sample, labels, [Bar.of(top, _sign(sample, top), model) for model, top in zip(models, tops, strict=True)])
        for sample, tops in different[:_CARDS]
    ]
    return Section(f"{compared.first} and {compared.second} differ", _first(cards, len(different)), cards=cards)


def _mistakes(evaluation: Evaluation, model: str, labels: Mapping[int, str]) -> Section:
    mistakes = sorted(evaluation.mistakes(model), key=lambda mistake: -mistake[1][0].probability)
    cards = [
        _card(sample, labels, [Bar.of(found[0], "bad"), *(Bar.of(each, _sign(sample, each, "")) for each in found[1:])])
        for sample, found in mistakes[:_CARDS]
    ]
    return Section(f"Mistakes of {model}", _first(cards, len(mistakes)), cards=cards)


def _first(cards: Sequence[Card], total: int) -> str:
    return f"Shown: {len(cards)} of {total}, the most confident first."


def _card(sample: Sample, labels: Mapping[int, str], found: Sequence[Bar]) -> Card:
    return Card(str(sample.path), thumbnail(sample.path), found, note=f"true class: {labels[sample.class_index]}")


def _sign(sample: Sample, found: Prediction, wrong: str = "bad") -> str:
    return "good" if found.index == sample.class_index else wrong


def _confused(evaluation: Evaluation, labels: Mapping[int, str]) -> Section:
    counts = {
        report.model: collections.Counter(
            f"{labels[sample.class_index]} → {Bar.of(found[0]).label}"
            for sample, found in evaluation.mistakes(report.model)
        )
        for report in evaluation.reports
    }
    total = sum(counts.values(), collections.Counter[str]())
    rows = [
        {"true class → predicted class": pair}
        | {f"images, {model}": str(count[pair]) for model, count in counts.items()}
        for pair, _ in total.most_common(_PAIRS)
    ]
    return Section("Most confused classes", f"Shown: {len(rows)} of {len(total)}.", rows)


def _classes(evaluation: Evaluation, labels: Mapping[int, str]) -> Section:
    right: dict[int, dict[str, list[bool]]] = {}
    for report in evaluation.reports:
        for sample, found in evaluation.answered(report.model):
            of_class = right.setdefault(sample.class_index, {each.model: [] for each in evaluation.reports})
            of_class[report.model].append(found[0].index == sample.class_index)
    worst_first = sorted(right.items(), key=lambda item: np.mean([hit for hits in item[1].values() for hit in hits]))
    rows = [
        {"class": labels[index]}
        | {f"top-1, {model}": f"{sum(hits)} of {len(hits)}" for model, hits in of_class.items()}
        for index, of_class in worst_first
    ]
    return Section("Classes", "The least accurate first.", rows)
