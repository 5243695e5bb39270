"""The command ``resnet-serve``."""

from __future__ import annotations

import argparse
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import NoReturn

from resnet_serve import diagnosis
from resnet_serve.config import ServerConfig
from resnet_serve.errors import ServerError
from resnet_serve.server import TritonServer

EXIT_STOPPED, EXIT_ENDED, EXIT_NOT_STARTED = 0, 1, 3
# As a shell says it of a command that is not there.
EXIT_NOT_RUN = 127

_EPILOG = """\
Everything after -- goes to tritonserver as it is: resnet-serve -- --log-verbose=1

exit codes: 0 stopped on request, 1 the server ended by itself, 2 wrong usage, 3 it could not start;
with --exit-after: those of the command
"""


class _StopRequested(Exception):  # noqa: N818  # a signal, no error
    """SIGTERM or SIGINT has arrived."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    args = _parser().parse_args(argv)
    config = ServerConfig(
        repository=args.repository,
        host=args.host,
        port=args.port,
        log=args.log or _new_log(),
        ready_timeout_s=args.ready_timeout_s,
        exit_timeout_s=args.exit_timeout_s,
        triton_args=tuple(args.triton_args),
    )
    signal.signal(signal.SIGTERM, _request_stop)
    signal.signal(signal.SIGINT, _request_stop)
    server = TritonServer(config)
    try:
        return _serve(server, args.then, exit_after=args.exit_after)
    except ServerError as exc:
        print(f"resnet-serve: {exc}", file=sys.stderr)
        return EXIT_NOT_STARTED
    except _StopRequested:
        # A second signal must not cut the first one's draining short.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        print("stopping: running requests finish first", flush=True)
        server.stop()
        if args.log is None:
            server.log.unlink(missing_ok=True)
        return EXIT_STOPPED
    finally:
        server.stop()


def _command_line(text: str) -> list[str]:
    """Split ``--then`` as a shell would."""
    try:
        return shlex.split(text)
    except ValueError as exc:
        raise argparse.ArgumentTypeError(f"{exc}: {text}") from exc


def _run(command: list[str], url: str) -> int:
    """Run the command of ``--then``; say what went wrong, and return its exit code."""
    try:
        code = subprocess.run(command, env={**os.environ, "RESNET_URL": url}, check=False).returncode
    except OSError as exc:
        print(f"resnet-serve: --then could not be run: {exc}", file=sys.stderr)
        return EXIT_NOT_RUN
    if code:
        print(f"resnet-serve: the command of --then ended with exit code {code}", file=sys.stderr)
    return code


def _show_models(server: TritonServer) -> None:
    try:
        models = server.models()
    except ServerError as exc:
        print(f"  {exc}")
        return
    for model in models:
        versions = ",".join(map(str, model.versions))
        batch = f"batch up to {model.max_batch_size}" if model.max_batch_size else "no batching"
        print(f"  {model.name:<22} version {versions:<4} {model.backend:<12} {batch:<15} {model.devices}".rstrip())


def _new_log() -> Path:
    """Make a log file of our own; a name that others can foresee would be theirs to redirect."""
    descriptor, name = tempfile.mkstemp(prefix="resnet-serve-", suffix=".log")
    os.close(descriptor)
    return Path(name)


def _serve(server: TritonServer, then: list[str] | None, *, exit_after: bool) -> int:
    started = time.monotonic()
    print(f"starting tritonserver on {server.config.repository} …", flush=True)
    server.start()
    _show_models(server)
    print(f"ready in {time.monotonic() - started:.1f} s")
    for name, url in (("gRPC", server.grpc_url), ("HTTP", server.http_url), ("metrics", server.metrics_url)):
        print(f"  {name:<8} {url}")
    print(f"  {'log':<8} {server.log}", flush=True)
    if then:
        then_code = _run(then, server.grpc_url)
        if exit_after:
            return then_code
    code = server.wait()
    print(
        f"resnet-serve: tritonserver ended by itself with exit code {code}; the end of its log:",
        file=sys.stderr,
    )
    print(diagnosis.tail(server.log), file=sys.stderr)
    return EXIT_ENDED


def _request_stop(_number: int, _frame: FrameType | None) -> NoReturn:
    raise _StopRequested


def _parser() -> argparse.ArgumentParser:
    default = ServerConfig(repository="model_repository")
    parser = argparse.ArgumentParser(
        prog="resnet-serve",
        description="Serve a model repository with the real tritonserver, without Docker.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--repository", type=Path, default=default.repository, metavar="DIR", help="default: model_repository"
    )
    parser.add_argument(
        "--host",
        default=default.host,
        help=f"address to listen on (default {default.host}; 0.0.0.0 opens it to the network)",
    )
    parser.add_argument(
        "--port",
        type=int,
        default=default.port,
        help=f"port for HTTP; gRPC takes the next, metrics the one after (default {default.port}; 0 takes free ones)",
    )
    parser.add_argument(
        "--log", type=Path, metavar="FILE", help="Triton's log (default: a file in the temporary folder)"
    )
    parser.add_argument(
        "--ready-timeout-s",
        type=float,
        default=default.ready_timeout_s,
        metavar="S",
        help=f"default {default.ready_timeout_s:.0f}",
    )
    parser.add_argument(
        "--exit-timeout-s",
        type=int,
        default=default.exit_timeout_s,
        metavar="S",
        help=f"for running requests when stopping (default {default.exit_timeout_s})",
    )
    parser.add_argument(
        "--then",
        type=_command_line,
        metavar="COMMAND",
        help="run this once the server is ready, with its gRPC address in RESNET_URL",
    )
    parser.add_argument("--exit-after", action="store_true", help="stop after --then, with its exit code")
    parser.add_argument("triton_args", nargs="*", metavar="-- FLAG", help="tritonserver's own flags")
    return parser


if __name__ == "__main__":
    sys.exit(main())
