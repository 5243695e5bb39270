"""The command ``resnet-serve``: its options, and what it does with them from start to end."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import os
import shlex
import signal
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from resnet_client.printing import report, warn

from resnet_serve import access
from resnet_serve.config import APIS, LOOPBACK, ServerConfig, ServerError
from resnet_serve.server import TritonServer
from resnet_serve.session import Session, StopRequested

EXIT_STOPPED, EXIT_NOT_STARTED = 0, 3
_EPILOG = """\
Everything after -- goes to tritonserver as it is: resnet-serve -- --log-verbose=1
`resnet-serve rollout --help` shows how to bring a new version of a model into service,
`resnet-serve gateway --help` how to classify images over plain HTTP and JSON.

exit codes: 0 stopped on request, 1 the server ended by itself, 2 wrong usage, 3 it could not start;
with --exit-after: those of the command, 130 or 143 if a signal stopped it
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    argv = sys.argv[1:] if argv is None else argv
    if argv[:1] == ["rollout"]:
        from resnet_serve.rollout import cli as rollout

        return rollout.main(argv[1:])
    if argv[:1] == ["gateway"]:
        from resnet_serve.gateway import cli as gateway

        return gateway.main(argv[1:])
    args = parser().parse_args(argv)
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
    server = TritonServer(config_of(args, log))
    session = Session(server, report, _warn, restart=args.restart)
    try:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, _request_stop)
        session.start()
        if args.run:
            code = session.run(args.run)
            if args.exit_after:
                return code
        return session.wait()
    except StopRequested as request:
        report("stopping: running requests finish first")
        # The command of --run did not finish; as in a shell.
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


def _warn(line: str) -> None:
    warn(f"resnet-serve: {line}")


def _request_stop(number: int, _frame: FrameType | None) -> NoReturn:
    raise StopRequested(number)


def config_of(args: argparse.Namespace, log: Path) -> ServerConfig:
    """Return what to run, from the options of :func:`parser`.

    Raises:
        ServerError: the file of the admin token can be neither read nor made.
    """
    given = {field.name: getattr(args, field.name) for field in dataclasses.fields(ServerConfig) if field.name in args}
    token = access.token_from(args.admin_token_file) if args.admin_token_file else None
    return ServerConfig(**given | {"log": log, "admin_token": token, "triton_args": tuple(args.triton_args)})


class _Parser(argparse.ArgumentParser):
    """Refuses options that mean nothing without another one."""

    def parse_args(self, args: Iterable[str] | None = None, namespace: Any = None) -> Any:
        found = super().parse_args(args, namespace)
        if found.exit_after and not found.run:
            self.error("--exit-after stops after the command of --run: name one, or leave it out")
        if found.no_http and found.unsafe_http_host:
            self.error("--no-http and --unsafe-http-host exclude each other: give one")
        if any(flag.startswith("--model-config-name") for flag in found.triton_args):
            self.error("--model-config-name is an option of resnet-serve: write it before --")
        return found


def parser() -> argparse.ArgumentParser:
    """Return the parser; an option that sets a field of :class:`ServerConfig` has its name and its default."""
    parser = _Parser(
        prog="resnet-serve",
        description="Serve a model repository with the real tritonserver, without Docker.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    default = ServerConfig(repository="model_repository")
    _add_server(parser.add_argument, default)
    _add_access(parser.add_argument, default)
    add = parser.add_argument
    add("--restart", action="store_true", help="when the server crashes, start it again, for ever")
    add(
        "--run",
        type=_command_line,
        metavar="COMMAND",
        help="run this program, with its arguments, once the server is ready, with the server's addresses in "
        "RESNET_URL (gRPC), RESNET_HTTP_URL and RESNET_METRICS_URL, and its admin token in RESNET_ADMIN_TOKEN; "
        "no shell runs it: for variables and pipes write sh -c '…'",
    )
    add("--exit-after", action="store_true", help="stop after --run, with its exit code")
    add("triton_args", nargs="*", metavar="-- FLAG", help="tritonserver's own flags")
    return parser


def _add_server(add: Callable[..., object], default: ServerConfig) -> None:
    add("--repository", type=Path, default=default.repository, metavar="DIR", help="default: model_repository")
    add(
        "--model-config-name",
        type=_model_config_name,
        metavar="NAME",
        help="use <model>/configs/NAME.pbtxt instead of config.pbtxt for each model that has this file; none: for no "
        "model (default: tuned, from resnet-loadtest tune, if a model has it; else local, from resnet-build)",
    )
    about = f"address that gRPC listens on (default {default.host}; 0.0.0.0 opens it to the network)"
    add("--host", default=default.host, help=about)
    about = f"address that HTTP listens on (default {LOOPBACK}); beyond this machine, anyone can end the server"
    add("--unsafe-http-host", default="", metavar="HOST", help=about)
    about = f"address that the Prometheus metrics listen on (default {LOOPBACK})"
    add("--metrics-host", default="", metavar="HOST", help=about)
    add("--no-http", action="store_true", help="answer over gRPC only; also keeps web pages on this machine out")
    about = f"port for HTTP; gRPC takes the next, metrics the one after (default {default.port}; 0 takes free ones)"
    add("--port", type=int, default=default.port, help=about)
    add("--log", type=Path, metavar="FILE", help="Triton's log (default: a file in the temporary folder)")
    ready_s, exit_s = default.ready_timeout_s, default.exit_timeout_s
    add("--ready-timeout-s", type=_timeout, default=ready_s, metavar="S", help=f"default {ready_s:.0f}")
    about = f"for running requests when stopping (default {exit_s})"
    add("--exit-timeout-s", type=_whole_seconds, default=exit_s, metavar="S", help=about)


def _add_access(add: Callable[..., object], default: ServerConfig) -> None:
    add(
        "--open-apis",
        type=_apis,
        default=default.open_apis,
        metavar="NAMES",
        help=f"what works without the admin token, in addition to health and inference: none, all, or some of "
        f"{','.join(APIS)} (default {','.join(default.open_apis)})",
    )
    about = "holds the admin token; made if it is not there (default: RESNET_ADMIN_TOKEN, or a random token)"
    add("--admin-token-file", type=Path, metavar="FILE", help=about)
    add("--tls-certificate", type=Path, metavar="FILE", help="PEM: gRPC with TLS")
    add("--tls-key", type=Path, metavar="FILE", help="PEM: its private key")
    about = "PEM: let in only clients with a certificate of these"
    add("--tls-client-ca", type=Path, metavar="FILE", help=about)


def _apis(text: str) -> tuple[str, ...]:
    """``none``, ``all``, or names with commas between."""
    if text in ("none", "all"):
        return APIS if text == "all" else ()
    names = tuple(text.split(","))
    if unknown := sorted(set(names) - set(APIS)):
        raise argparse.ArgumentTypeError(f"invalid name {unknown[0]!r}: expected none, all, or {', '.join(APIS)}")
    return names


def _model_config_name(text: str) -> str:
    """Return an empty name for ``none``; Triton reads the name as part of a path."""
    if "/" in text:
        raise argparse.ArgumentTypeError(f"{text!r} is not a name: expected one such as tuned, without / or .pbtxt")
    return "" if text == "none" else text


def _timeout(text: str) -> float:
    with contextlib.suppress(ValueError):
        if (seconds := float(text)) > 0:
            return seconds
    raise argparse.ArgumentTypeError(f"invalid value {text!r}: expected a number of seconds above 0")


def _whole_seconds(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(f"invalid value {text!r}: expected a whole number of seconds, 0 or more")
    return int(text)


def _command_line(text: str) -> list[str]:
    """Split ``--run`` as a shell would."""
    try:
        words = shlex.split(text)
    except ValueError as exc:
        raise argparse.ArgumentTypeError(f"{exc}: {text}") from exc
    if not words:
        raise argparse.ArgumentTypeError("it names no command")
    return words
