"""``resnet-client classify``: print the classes of images, as a list on a terminal and as lines of cells in a pipe."""

from __future__ import annotations

import csv
import json
import sys
from typing import TYPE_CHECKING, Any

from resnet_client.cli.exit_codes import ExitCode, OutcomeCount
from resnet_client.cli.options import add_images, html_file, images, open_client, positive
from resnet_client.images import describe
from resnet_client.printing import printable, report, show, warn

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from resnet_client.config import ClientConfig
    from resnet_client.results import Classification, Outcome

NAME = "classify"
HELP = "Classify images"
COLUMNS = ("image", "rank", "index", "label", "probability", "error")

_FORMULA = tuple("=+-@")  # a cell that begins with one of these is a formula in a spreadsheet


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add images, number of classes and output format."""
    add_images(parser)
    parser.add_argument("--top-k", type=positive, default=5, metavar="K", help="Classes per image (default: 5)")
    formats = parser.add_mutually_exclusive_group()
    formats.add_argument("--json", action="store_true", help="Print one JSON object per image, one per line")
    formats.add_argument("--csv", action="store_true", help=f"Print CSV with the columns {', '.join(COLUMNS)}")
    parser.add_argument(
        "--html", type=html_file, metavar="FILE", help="Also write an HTML page with thumbnails (extra: report)"
    )


def run(options: argparse.Namespace) -> ExitCode:
    """Classify and print."""
    show = _show_json if options.json else _show_csv if options.csv else _show_text
    count = OutcomeCount()
    with open_client(options) as client:
        outcomes = client.classify_many(
            images(options.paths),
            max_in_flight=options.max_in_flight,
            top_k=options.top_k,
            progress=sys.stderr.isatty() and not sys.stdout.isatty(),
        )
        counted = count.watch(outcomes)
        show(_paged(counted, client.config, options.html) if options.html else counted)
    return count.finish(options.paths)


def _paged(
    outcomes: Iterator[Outcome[Classification]], config: ClientConfig, path: Path
) -> Iterator[Outcome[Classification]]:
    """Pass outcomes on, and write them to a page at the end."""
    from resnet_client.report.page import Bar, Card, Page, Section, thumbnail

    cards = []
    for outcome in outcomes:
        bars = [Bar.of(each) for each in outcome.result.predictions] if outcome.ok else []
        error = "" if outcome.error is None else str(outcome.error)
        cards.append(Card(describe(outcome.source), thumbnail(outcome.source), bars, error=error))
        yield outcome
    title = f"Images classified by {config.model}"
    Page(title=title, subtitle=config.url, sections=[Section("", "", cards=cards)]).write(path)
    warn(f"wrote {path}")


def _show_json(outcomes: Iterable[Outcome[Classification]]) -> None:
    for outcome in outcomes:
        line: dict[str, Any] = {"image": describe(outcome.source)}
        if outcome.ok:
            line |= outcome.result.to_dict()
        else:
            line["error"] = str(outcome.error)
        report(json.dumps(line, ensure_ascii=False))


def _show_csv(outcomes: Iterable[Outcome[Classification]]) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(COLUMNS)
    for outcome in outcomes:
        writer.writerows([_as_text(cell) for cell in row] for row in _rows(outcome))


def _as_text(cell: Any) -> Any:
    """Keep a spreadsheet from computing a text that looks like a formula."""
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(_FORMULA) else cell


def _show_text(outcomes: Iterator[Outcome[Classification]]) -> None:
    for outcome in outcomes:
        if not sys.stdout.isatty():
            show("\n".join("\t".join(map(str, row)) for row in _rows(outcome)))
            continue
        show(printable(describe(outcome.source)))
        if outcome.error is not None:
            show(f"  {printable(str(outcome.error))}")
        else:
            show("\n".join(f"  {p.probability:6.1%}  {p.label} ({p.index})" for p in outcome.result.predictions))


def _rows(outcome: Outcome[Classification]) -> Iterator[tuple[Any, ...]]:
    image = printable(describe(outcome.source))
    if outcome.error is not None:
        yield image, "", "", "", "", printable(str(outcome.error))
        return
    for rank, prediction in enumerate(outcome.result.predictions, start=1):
        yield image, rank, prediction.index, printable(prediction.label), prediction.probability, ""
