"""The command ``resnet-loadtest``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import NoReturn

import resnet_command
from rich.console import Console

from resnet_loadtest.cli import Command
from resnet_loadtest.cli.find_slo import FIND_SLO
from resnet_loadtest.cli.report import COMPARE, REPORT
from resnet_loadtest.cli.run import RUN, WORKER
from resnet_loadtest.cli.tune import TUNE
from resnet_loadtest.errors import LoadTestError, UsageError

COMMANDS = (RUN, FIND_SLO, TUNE, COMPARE, REPORT, WORKER)

EXIT_COULD_NOT_RUN, EXIT_USAGE = 3, 64

_WIDTH = 140

_FAILURES = {
    EXIT_COULD_NOT_RUN: "the command could not run; the message gives the reason",
    EXIT_USAGE: "an option or a file is invalid",
    resnet_command.EXIT_INTERRUPTED: "interrupted (Ctrl-C)",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    arguments = resnet_command.with_completion(_parser()).parse_args(argv)
    console = Console(highlight=False, markup=False, emoji=False, soft_wrap=True)
    if not console.is_terminal:
        console.width = max(console.width, _WIDTH)
    try:
        return int(arguments.run(arguments, console))
    except UsageError as exc:
        return _fail(exc, EXIT_USAGE)
    except LoadTestError as exc:
        return _fail(exc, EXIT_COULD_NOT_RUN)
    except OSError as exc:
        return _fail(f"{exc.filename}: {exc.strerror}" if exc.filename else exc, EXIT_COULD_NOT_RUN)
    except ModuleNotFoundError as exc:
        if exc.name is None or exc.name.startswith("resnet_"):  # a defect of this package, not a missing dependency
            raise
        return _fail(resnet_command.not_installed(exc.name, "loadtest"), EXIT_COULD_NOT_RUN)


def _fail(reason: object, code: int) -> int:
    from resnet_client.printing import warn  # not before gevent has patched

    warn(f"resnet-loadtest: {reason}")
    return code


class _Parser(argparse.ArgumentParser):
    """Exits with 64 on a usage error: argparse's 2 means INVALID here."""

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(EXIT_USAGE, f"{self.prog}: {message}\n")


def _epilog(command: Command) -> str:
    codes = "\n".join(f"  {code:<4} {meaning}" for code, meaning in sorted({**_FAILURES, **command.results}.items()))
    return f"An option takes precedence over the environment variable in brackets.\n\nexit codes:\n{codes}"


def _parser() -> argparse.ArgumentParser:
    shape = argparse.RawDescriptionHelpFormatter
    parser = _Parser(
        "resnet-loadtest",
        description="Load-test a served ResNet-50.",
        epilog="`resnet-loadtest COMMAND --help` lists the options and exit codes of a command.",
    )
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True)
    for command in COMMANDS:
        subparser = subparsers.add_parser(
            command.name, help=command.help, description=command.help, epilog=_epilog(command), formatter_class=shape
        )
        command.add_options(subparser)
        subparser.set_defaults(run=command.run)
    return parser


if __name__ == "__main__":
    resnet_command.loadtest()
