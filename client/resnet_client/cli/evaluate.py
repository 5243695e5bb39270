"""``resnet-client evaluate``: accuracy, latency and same top-1 class on images whose classes are known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from resnet_client.cli.exit_codes import ExitCode
from resnet_client.cli.options import add_in_flight, html_file, named, open_client
from resnet_client.evaluate import class_names, evaluate, read_samples
from resnet_client.printing import show, warn

if TYPE_CHECKING:
    import argparse

    from resnet_client.evaluate import Evaluation

NAME = "evaluate"
HELP = "Measure top-1, top-5, latency and how often models have the same top-1 class, on labelled images"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add images, their classes and models."""
    parser.add_argument(
        "folder", type=named, metavar="FOLDER", help="Images; without --labels, one subfolder per class"
    )
    parser.add_argument(
        "--labels",
        type=Path,
        metavar="FILE",
        help="CSV file with the columns file (relative to FOLDER) and class_index; default: the subfolders' names are "
        "class indices or labels",
    )
    parser.add_argument(
        "--model",
        action="append",
        dest="models",
        metavar="NAME",
        help="Model to evaluate; repeat to compare models [RESNET_MODEL; default: resnet50]",
    )
    parser.add_argument("--json", action="store_true", help="Print one JSON object")
    parser.add_argument(
        "--report",
        type=html_file,
        metavar="FILE",
        help="Also write an HTML page: calibration, classes, mistakes, and where models differ (extra: report)",
    )
    add_in_flight(parser)


def run(options: argparse.Namespace) -> ExitCode:
    """Evaluate, print, and write the page."""
    with open_client(options, retry_overload=True) as client:
        models = list(dict.fromkeys(options.models or [client.config.model]))
        names = class_names(client, models[0])
        samples = read_samples(Path(options.folder), options.labels, names)
        for model in models:  # a missing model fails here once, not once per image
            client.metadata(model=model, model_version=client.config.model_version)
        evaluation = evaluate(client, samples, models, max_in_flight=options.max_in_flight)
    if options.json:
        show(json.dumps(evaluation.to_dict(), indent=2))
    else:
        _show_table(evaluation)
    for report in evaluation.reports:
        for message in report.failures.values():
            warn(f"resnet-client: {report.model}: {message}")
    if options.report:
        from resnet_client.report.evaluation import page

        page(evaluation, names, f"{client.config.url} · {options.folder}").write(options.report)
        warn(f"wrote {options.report}")
    return ExitCode.SOME_FAILED if any(report.failures for report in evaluation.reports) else ExitCode.OK


def _show_table(evaluation: Evaluation) -> None:
    rows = evaluation.rows()
    table = [list(rows[0]), *(list(row.values()) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for row in table:
        show("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())
    for each in evaluation.comparisons:
        show(f"same top-1 class, {each.first} and {each.second}: {each.agreement:.1%}")
