"""``resnet-loadtest plan``: how many servers an objective takes, from the measured curve of one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table

from resnet_loadtest.errors import UsageError

if TYPE_CHECKING:
    import argparse

    from rich.console import Console

NAME = "plan"
HELP = "how many servers, GPUs and how much money an objective takes, from the report of one server"


def add_options(parser: argparse.ArgumentParser) -> None:
    """What is asked for, from which report."""
    parser.add_argument("--rate", required=True, metavar="RATE", help="requests per second, such as 50000/s")
    parser.add_argument("--slo", required=True, metavar="SLO", help="one objective about time, such as p99<=50ms")
    parser.add_argument(
        "--from",
        dest="report",
        type=Path,
        required=True,
        metavar="REPORT.json",
        help="of run --profile steps against one server",
    )
    parser.add_argument(
        "--spare", type=int, default=1, metavar="N", help="servers that may be missing (default: %(default)s)"
    )
    parser.add_argument(
        "--in-turn",
        action="store_true",
        help="one caller deals all requests in turn, instead of many each for itself",
    )
    parser.add_argument("--gpus-per-server", type=int, default=0, metavar="N", help="for the count of GPUs")
    parser.add_argument("--cost-per-hour", type=float, metavar="X", help="of one server")
    parser.add_argument("--out", type=Path, metavar="FILE", help="also write .html (with charts) or .json")


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Plan and show; always 0."""
    from resnet_loadtest.report import document, page
    from resnet_loadtest.sizing import page as pages
    from resnet_loadtest.sizing.plan import Demand, make

    demand = Demand(
        rate=_rate(arguments.rate),
        slo=arguments.slo,
        spare=max(0, arguments.spare),
        in_turn=arguments.in_turn,
        gpus_per_server=max(0, arguments.gpus_per_server),
        cost_per_hour=arguments.cost_per_hour,
    )
    if arguments.out is not None and arguments.out.suffix not in (".html", ".json"):
        raise UsageError(f"--out must end in .html or .json, not {arguments.out.name!r}")
    try:
        measured = document.read(arguments.report)
    except ValueError as exc:
        raise UsageError(str(exc)) from exc
    plan = make(measured, demand)
    table = Table(*pages.HEAD, box=None, pad_edge=False)
    for row in pages.rows(plan):
        table.add_row(*row)
    console.print(table)
    laid_out = pages.page(plan, measured)
    for label, value, about in laid_out.tiles:
        console.print(f"  {label}: {value} ({about})", highlight=False)
    for _, doubt in laid_out.findings:
        console.print(f"  doubt  {doubt}", highlight=False)
    if arguments.out is not None and arguments.out.suffix == ".html":
        page.write(laid_out, arguments.out)
    elif arguments.out is not None:
        arguments.out.write_text(json.dumps(pages.document(plan), indent=1) + "\n", encoding="utf-8")
    return 0


def _rate(text: str) -> float:
    try:
        rate = float(text.strip().removesuffix("/s"))
    except ValueError as exc:
        raise UsageError(f"--rate is a number of requests per second, such as 50000/s, not {text!r}") from exc
    if not 0 < rate < float("inf"):
        raise UsageError(f"--rate must be above 0, not {text}")
    return rate
