"""The command line: parse the options, run one command, return the exit code."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from typing import TYPE_CHECKING

import resnet_command

from resnet_client.cli import bulk, classify, doctor, embed, evaluate, server
from resnet_client.cli.exit_codes import ExitCode, code_of
from resnet_client.cli.options import build_parser
from resnet_client.errors import ResnetClientError
from resnet_client.printing import warn

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

_COMMANDS = (classify, embed, bulk, server.Health, server.Models, server.Load, server.Metadata, evaluate, doctor)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``resnet-client``.

    Args:
        arguments: instead of ``sys.argv[1:]``.

    Returns:
        The exit code; ``--help`` lists them.
    """
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # gRPC would log what the error message says
    code = ExitCode.OK
    try:
        code = _code_of(resnet_command.with_completion(build_parser(_COMMANDS)).parse_args(arguments))
        sys.stdout.flush()  # an error at interpreter exit could not be reported
    except BrokenPipeError:  # the reader, such as `head`, has closed the pipe
        _discard_output()
    except OSError as exc:
        what = "the output cannot be written" if exc.filename is None else exc.filename
        warn(f"resnet-client: {what}: {exc.strerror or exc}")
        _discard_output()
        code = ExitCode.USAGE
    return int(code)


def _code_of(options: argparse.Namespace) -> ExitCode:
    try:
        code: ExitCode = options.run(options)
    except ResnetClientError as exc:
        warn(f"resnet-client: {exc}")
        return code_of(exc)
    return code


def _discard_output() -> None:
    """Discard what is still buffered, so that the flush at interpreter exit does not fail."""
    with contextlib.suppress(io.UnsupportedOperation):  # it is not a file
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
