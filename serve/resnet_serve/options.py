"""The flags of ``resnet-serve``, and the configuration that they stand for."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from resnet_serve import access
from resnet_serve.config import APIS, ServerConfig

_EPILOG = """\
Everything after -- goes to tritonserver as it is: resnet-serve -- --log-verbose=1
`resnet-serve rollout --help` shows how to bring a new version of a model into service,
`resnet-serve gateway --help` how to classify images over plain HTTP and JSON.

exit codes: 0 stopped on request, 1 the server ended by itself, 2 wrong usage, 3 it could not start;
with --exit-after: those of the command, 130 or 143 if a signal stopped it
"""


def config_of(args: argparse.Namespace, log: Path) -> ServerConfig:
    """Return what to run.

    Raises:
        ServerError: the file of the admin token can be neither read nor made.
    """
    return ServerConfig(
        repository=args.repository,
        host=args.host,
        port=args.port,
        log=log,
        ready_timeout_s=args.ready_timeout_s,
        exit_timeout_s=args.exit_timeout_s,
        open_apis=args.open_apis,
        admin_token=access.token_from(args.admin_token_file) if args.admin_token_file else None,
        tls_certificate=args.tls_certificate,
        tls_key=args.tls_key,
        tls_client_ca=args.tls_client_ca,
        model_config_name=args.model_config_name,
        triton_args=tuple(args.triton_args),
    )


class _Parser(argparse.ArgumentParser):
    """Refuses what means nothing without another option."""

    def parse_args(self, args: Iterable[str] | None = None, namespace: Any = None) -> Any:
        found = super().parse_args(args, namespace)
        if found.exit_after and not found.then:
            self.error("--exit-after stops after the command of --then: name one, or leave it out")
        if any(flag.startswith("--model-config-name") for flag in found.triton_args):
            self.error("--model-config-name is an option of resnet-serve: write it before --")
        return found


def parser() -> argparse.ArgumentParser:
    """Return the parser."""
    parser = _Parser(
        prog="resnet-serve",
        description="Serve a model repository with the real tritonserver, without Docker.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    default = ServerConfig(repository="model_repository")
    _add_server(parser, default)
    _add_access(parser, default)
    parser.add_argument("--restart", action="store_true", help="when the server crashes, start it again, for ever")
    parser.add_argument(
        "--then",
        type=_command_line,
        metavar="COMMAND",
        help="run this program, with its arguments, once the server is ready, with the server's addresses in "
        "RESNET_URL (gRPC), RESNET_HTTP_URL and RESNET_METRICS_URL, and its admin token in RESNET_ADMIN_TOKEN; "
        "no shell runs it: for variables and pipes write sh -c '…'",
    )
    parser.add_argument("--exit-after", action="store_true", help="stop after --then, with its exit code")
    parser.add_argument("triton_args", nargs="*", metavar="-- FLAG", help="tritonserver's own flags")
    return parser


def _add_server(parser: argparse.ArgumentParser, default: ServerConfig) -> None:
    parser.add_argument(
        "--repository", type=Path, default=default.repository, metavar="DIR", help="default: model_repository"
    )
    parser.add_argument(
        "--model-config-name",
        type=_model_config_name,
        metavar="NAME",
        help="use <model>/configs/NAME.pbtxt instead of config.pbtxt for each model that has this file; none: for no "
        "model (default: tuned, from resnet-loadtest tune, if a model has it; else local, from resnet-build)",
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
        type=_timeout,
        default=default.ready_timeout_s,
        metavar="S",
        help=f"default {default.ready_timeout_s:.0f}",
    )
    parser.add_argument(
        "--exit-timeout-s",
        type=_whole_seconds,
        default=default.exit_timeout_s,
        metavar="S",
        help=f"for running requests when stopping (default {default.exit_timeout_s})",
    )


def _add_access(parser: argparse.ArgumentParser, default: ServerConfig) -> None:
    parser.add_argument(
        "--open-apis",
        type=_apis,
        default=default.open_apis,
        metavar="NAMES",
        help=f"what works without the admin token, in addition to health and inference: none, all, or some of "
        f"{','.join(APIS)} (default {','.join(default.open_apis)})",
    )
    parser.add_argument(
        "--admin-token-file",
        type=Path,
        metavar="FILE",
        help="holds the admin token; made if it is not there (default: RESNET_ADMIN_TOKEN, or a random token)",
    )
    parser.add_argument("--tls-certificate", type=Path, metavar="FILE", help="PEM: gRPC with TLS, HTTP on loopback")
    parser.add_argument("--tls-key", type=Path, metavar="FILE", help="PEM: its private key")
    parser.add_argument(
        "--tls-client-ca", type=Path, metavar="FILE", help="PEM: let in only clients with a certificate of these"
    )


def _apis(text: str) -> tuple[str, ...]:
    """``none``, ``all``, or names with commas between."""
    if text in ("none", "all"):
        return APIS if text == "all" else ()
    names = tuple(text.split(","))
    for name in names:
        if name not in APIS:
            raise argparse.ArgumentTypeError(f"{name!r} is none of none, all, {', '.join(APIS)}")
    return names


def _model_config_name(text: str) -> str:
    """Return an empty name for ``none``; Triton reads the name as part of a path."""
    if "/" in text:
        raise argparse.ArgumentTypeError(f"{text!r} is not a name: expected one such as tuned, without / or .pbtxt")
    return "" if text == "none" else text


def _timeout(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not seconds > 0:  # neither is nan
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds above 0")
    return seconds


def _whole_seconds(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number of seconds, 0 or more")
    return int(text)


def _command_line(text: str) -> list[str]:
    """Split ``--then`` as a shell would."""
    try:
        words = shlex.split(text)
    except ValueError as exc:
        raise argparse.ArgumentTypeError(f"{exc}: {text}") from exc
    if not words:
        raise argparse.ArgumentTypeError("it names no command")
    return words
