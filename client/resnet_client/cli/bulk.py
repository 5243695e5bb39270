"""``resnet-client bulk``: very many photos into a Parquet file."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from resnet_client._bulk._run import Options
from resnet_client._bulk._run import run as run_bulk
from resnet_client.cli.exit_codes import ExitCode
from resnet_client.cli.options import add_in_flight, named, open_client

if TYPE_CHECKING:
    import argparse

NAME = "bulk"
HELP = "classify or embed very many photos into a Parquet file; started again, it goes on where it was"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Where the photos are, where the rows go, how the work is done."""
    parser.add_argument(
        "sources",
        nargs="+",
        type=named,
        metavar="SOURCE",
        help="folder, pattern, tar shard ({000..127} for many), Parquet file, photo, or a URL of these for fsspec",
    )
    parser.add_argument(
        "--output", type=named, required=True, metavar="PATH", help="FILE.parquet, or a folder that gets many of them"
    )
    rows = parser.add_mutually_exclusive_group()
    rows.add_argument("--embed", action="store_true", help="features instead of classes")
    rows.add_argument("--top-k", type=int, default=5, metavar="K", help="classes per photo (default: 5)")
    parser.add_argument("--column", metavar="NAME", help="column of Parquet files that holds the photos")
    add_in_flight(parser)
    parser.add_argument(
        "--part-size", type=int, default=1000, metavar="N", help="photos written at once (default: 1000)"
    )
    parser.add_argument(
        "--patience-s",
        type=float,
        default=300.0,
        metavar="S",
        help="how long all servers may be away, in seconds (default: 300)",
    )
    parser.add_argument("--restart", action="store_true", help="begin anew instead of going on")
    parser.add_argument("--engine", choices=("local", "ray"), default="local", help="who does it (default: local)")
    parser.add_argument(
        "--workers", type=int, metavar="N", help="with --engine ray: processes that ask (default: one on each node)"
    )


def run(options: argparse.Namespace) -> ExitCode:
    """Work, and say how it went."""
    given = {field.name: getattr(options, field.name) for field in dataclasses.fields(Options)}
    given |= {"sources": tuple(options.sources), "output": Path(options.output)}
    given |= {"top_k": None if options.embed else options.top_k}
    with open_client(options) as client:
        progress = run_bulk(client, Options(**given))
    sys.stderr.write(f"resnet-client: {options.output}: {progress.summary()}\n")
    return ExitCode.SOME_FAILED if progress.failed else ExitCode.OK
