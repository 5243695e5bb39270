"""``resnet-client bulk``: classify or embed millions of images into Parquet."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

import resnet_command

from resnet_client.cli.exit_codes import ExitCode
from resnet_client.cli.options import add_in_flight, named, open_client, positive
from resnet_client.errors import ConfigurationError
from resnet_client.printing import warn

NAME = "bulk"
HELP = "Classify or embed millions of images into a Parquet file; an interrupted run resumes"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add sources, output and the options of the run."""
    add = parser.add_argument
    about = (
        "Folder, glob pattern, tar archive (several: shard-{000..127}.tar), Parquet file or image, or their fsspec URL"
    )
    add("sources", nargs="+", type=named, metavar="SOURCE", help=about)
    add("--output", type=named, required=True, metavar="PATH", help="FILE.parquet, or a folder for many Parquet files")
    rows = parser.add_mutually_exclusive_group()
    rows.add_argument("--embed", action="store_true", help="Write feature vectors instead of classes")
    rows.add_argument("--top-k", type=positive, default=5, metavar="K", help="Classes per image (default: 5)")
    add("--column", metavar="NAME", help="Column of Parquet files that holds the images")
    add_in_flight(parser)
    add("--part-size", type=positive, default=1000, metavar="N", help="Rows in each part file (default: 1000)")
    about = "How long to wait while all servers are unavailable (default: 300)"
    add("--unavailable-timeout-s", type=float, default=300.0, metavar="SECONDS", help=about)
    add("--restart", action="store_true", help="Discard an earlier run instead of resuming it")
    add("--engine", choices=("local", "ray"), default="local", help="One process or a Ray cluster (default: local)")
    add("--workers", type=positive, metavar="N", help="Processes of --engine ray (default: one per node)")


def run(options: argparse.Namespace) -> ExitCode:
    """Run, and print a summary."""
    try:
        from resnet_client.bulk.run import Options, run_bulk
    except ImportError as exc:
        raise ConfigurationError(resnet_command.not_installed(str(exc.name), "bulk")) from exc
    given = {field.name: getattr(options, field.name) for field in dataclasses.fields(Options)}
    given |= {"sources": tuple(options.sources), "output": Path(options.output)}
    given |= {"top_k": None if options.embed else options.top_k}
    with open_client(options) as client:
        summary, failed = run_bulk(client, Options(**given))
    warn(f"resnet-client: {options.output}: {summary}")
    return ExitCode.SOME_FAILED if failed else ExitCode.OK
