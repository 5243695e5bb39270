"""The command ``resnet-serve``."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import NoReturn

from resnet_serve import options
from resnet_serve.errors import ServerError, StopRequested
from resnet_serve.server import TritonServer
from resnet_serve.session import Session

EXIT_STOPPED, EXIT_NOT_STARTED = 0, 3


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    argv = sys.argv[1:] if argv is None else argv
    if argv[:1] == ["rollout"]:
        from resnet_serve import rollout

        return rollout.main(argv[1:])
    if argv[:1] == ["gateway"]:
        from resnet_serve.gateway import cli

        return cli.main(argv[1:])
    args = options.parser().parse_args(argv)
    log = args.log or _new_log()
    code = EXIT_NOT_STARTED
    try:
        code = _serve(args, log)
    except ServerError as exc:
        _warn(str(exc))
    finally:
        # A temporary log stays if it explains a failure.
        if args.log is None and code == EXIT_STOPPED:
            log.unlink(missing_ok=True)
    return code


def _serve(args: argparse.Namespace, log: Path) -> int:
    server = TritonServer(options.config_of(args, log))
    session = Session(server, _report, _warn, restart=args.restart)
    try:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, _request_stop)
        session.start()
        if args.then:
            code = session.run(args.then)
            if args.exit_after:
                return code
        return session.wait()
    except StopRequested as request:
        _report("stopping: running requests finish first")
        # The command of --then did not finish; as in a shell.
        return 128 + request.number if args.exit_after else EXIT_STOPPED
    finally:
        # A signal, or a second one, must not cut the draining short.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        server.stop()


def _new_log() -> Path:
    """Make a temporary log; other users cannot predict its name and put a link there."""
    descriptor, name = tempfile.mkstemp(prefix="resnet-serve-", suffix=".log")
    os.close(descriptor)
    return Path(name)


def _report(line: str) -> None:
    print(line, flush=True)


def _warn(line: str) -> None:
    print(f"resnet-serve: {line}", file=sys.stderr, flush=True)


def _request_stop(number: int, _frame: FrameType | None) -> NoReturn:
    raise StopRequested(number)


if __name__ == "__main__":
    sys.exit(main())
