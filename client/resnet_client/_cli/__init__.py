"""The command line: parse, run one command, turn what happened into an exit code."""

from __future__ import annotations

import io
import os
import sys
from typing import TYPE_CHECKING

from resnet_client._cli import _bulk, _classify, _doctor, _embed, _evaluate, _server
from resnet_client._cli._exit_codes import ExitCode, code_of
from resnet_client._cli._options import build_parser
from resnet_client._exceptions import ResnetClientError

if TYPE_CHECKING:
    from collections.abc import Sequence

_COMMANDS = (_classify, _embed, _bulk, _server.Health, _server.Metadata, _evaluate, _doctor)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``resnet-client``.

    Args:
        arguments: instead of ``sys.argv[1:]``.

    Returns:
        The exit code; ``--help`` lists them.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # file names may hold what the encoding has no characters for
            stream.reconfigure(errors="backslashreplace")
    options = build_parser(_COMMANDS).parse_args(arguments)
    try:
        return int(options.run(options))
    except ResnetClientError as exc:
        sys.stderr.write(f"resnet-client: {exc}\n")
        return int(code_of(exc))
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return int(ExitCode.OK)
    except KeyboardInterrupt:
        return int(ExitCode.INTERRUPTED)
