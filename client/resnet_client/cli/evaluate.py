"""``resnet-client evaluate``: accuracy, latency and same top-1 class on images whose classes are known."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from resnet_client import evaluate as accuracy
from resnet_client.cli.exit_codes import ExitCode
from resnet_client.cli.options import add_in_flight, named, open_client
from resnet_client.printing import show, warn

if TYPE_CHECKING:
    import argparse

    from resnet_client.evaluate import Evaluation

NAME = "evaluate"
HELP = "Measure top-1, top-5, latency and how often models have the same top-1 class, on labelled images"

_HEADINGS = ("model", "images", "failed", "top-1", "top-5", "images/s", "p50 ms", "p95 ms", "p99 ms")


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
    add_in_flight(parser)


def run(options: argparse.Namespace) -> ExitCode:
    """Evaluate and print."""
    with open_client(options) as client:
        models = list(dict.fromkeys(options.models or [client.config.model]))
        names = accuracy.class_names(client, models[0])
        samples = accuracy.read_samples(Path(options.folder), options.labels, names)
        for model in models:  # a missing model fails here once, not once per image
            client.metadata(model=model, model_version=client.config.model_version)
        evaluation = accuracy.evaluate(client, samples, models, max_in_flight=options.max_in_flight)
    if options.json:
        show(json.dumps(evaluation.to_dict(), indent=2))
    elif sys.stdout.isatty():
        _show_table(evaluation)
    else:
        _show_lines(evaluation)
    for report in evaluation.reports:
        for message in report.failures.values():
            warn(f"resnet-client: {report.model}: {message}")
    return ExitCode.SOME_FAILED if any(report.failures for report in evaluation.reports) else ExitCode.OK


def _rows(evaluation: Evaluation) -> list[list[str]]:
    return [
        [
            report.model,
            str(report.images),
            str(len(report.failures)),
            f"{report.top1:.4f}",
            f"{report.top5:.4f}",
            f"{report.images_per_s:.1f}",
            *(f"{report.latency_ms.get(name, float('nan')):.1f}" for name in ("p50", "p95", "p99")),
        ]
        for report in evaluation.reports
    ]


def _show_lines(evaluation: Evaluation) -> None:
    for row in [list(_HEADINGS), *_rows(evaluation)]:
        show("\t".join(row))
    for pair, share in evaluation.agreement.items():
        show(f"same top-1 class\t{pair}\t{share:.4f}")


def _show_table(evaluation: Evaluation) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(*_HEADINGS, box=None)
    for row in _rows(evaluation):
        table.add_row(*row)
    console = Console()
    console.print(table)
    for pair, share in evaluation.agreement.items():
        console.print(f"same top-1 class, {pair}: {share:.1%}")
