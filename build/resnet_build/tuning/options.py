"""The flags of ``resnet-build tune``."""

from __future__ import annotations

import argparse
from pathlib import Path

_EPILOG = """\
exit codes: 0 done, 1 nothing was measured or no setting keeps the objective, and nothing was written; 2 wrong usage

examples:
  resnet-build tune                             the highest throughput with 16 callers
  resnet-build tune --slo "p99<=100ms"          the highest rate at which 99 % are answered within 100 ms
  resnet-build tune --model resnet50_int8       for another ensemble of the repository
"""


def parser() -> argparse.ArgumentParser:
    """Return the parser."""
    parser = argparse.ArgumentParser(
        prog="resnet-build tune",
        description="Choose threads, instances, largest batch, queue delay and decoding processes for this machine, by "
        "measuring an ensemble on the real server, and write them into the repository.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--repository", type=Path, default=Path("model_repository"), metavar="DIR", help="default: model_repository"
    )
    parser.add_argument("--model", default="resnet50", metavar="NAME", help="the ensemble (default resnet50)")
    parser.add_argument("--slo", metavar="OBJECTIVE", help="for example p99<=100ms; without, throughput alone counts")
    parser.add_argument(
        "--callers", type=_positive, default=16, metavar="N", help="callers at once, without --slo (default 16)"
    )
    parser.add_argument(
        "--images", type=Path, metavar="DIR", help="photos like those to be served (default: some that packages ship)"
    )
    parser.add_argument(
        "--url",
        metavar="URL",
        help="gRPC address of a server of this repository that runs on this machine and that nobody else uses; its "
        "admin token is read from RESNET_ADMIN_TOKEN (default: a server of its own)",
    )
    parser.add_argument("--rounds", type=_positive, default=5, metavar="N", help="rounds of measuring (default 5)")
    parser.add_argument(
        "--round-s", type=float, default=2.5, metavar="S", help="seconds of a setting in a round (default 2.5)"
    )
    parser.add_argument("--dry-run", action="store_true", help="measure and show, but write nothing")
    parser.add_argument(
        "--grid", action="store_true", help="then measure a whole grid as well, and its best against the choice"
    )
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not at least 1")
    return number
