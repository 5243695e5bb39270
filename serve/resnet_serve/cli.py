"""The command ``resnet-serve``: its options, and its run from start to end."""

from __future__ import annotations

import argparse
import dataclasses
import os
import shlex
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import resnet_command
from resnet_client.cli.options import between
from resnet_client.config import ClientConfig
from resnet_client.printing import report

from resnet_serve import access, ports
from resnet_serve.config import ALL_MODELS, APIS, LOOPBACK, NotInstalledError, ServerConfig, ServerError
from resnet_serve.server import TritonServer
from resnet_serve.supervisor import StopRequested, Supervisor, warn

EXIT_STOPPED, EXIT_USAGE, EXIT_NOT_STARTED = 0, 2, 3
_LONGEST_S = 86_400
_EPILOG = """\
subcommands:
  resnet-serve rollout --help   switch to a new version of a model without failed requests
  resnet-serve gateway --help   classify images over plain HTTP and JSON, for curl and browsers

exit codes:
  0  a signal stopped the server
  1  the server exited unexpectedly
  2  wrong usage, or the extra serve is not installed
  3  the server could not start
  130  Ctrl-C before the server was ready
With --exit-after: the exit code of the command of --run, or 130 or 143 if a signal stopped it.

examples:
  resnet-serve --restart                    serve model_repository, and restart after crashes
  resnet-serve --port 0 -- --log-verbose=1  use free ports, and pass a flag to tritonserver
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
    args = resnet_command.with_completion(parser()).parse_args(argv)
    log = args.log or _new_log()
    code = EXIT_NOT_STARTED
    try:
        code = _serve(args, log)
    except ServerError as exc:
        code = EXIT_USAGE if isinstance(exc, NotInstalledError) else EXIT_NOT_STARTED
        warn(str(exc))
    except KeyboardInterrupt:
        code = EXIT_STOPPED
        raise
    finally:
        # A temporary log stays if it explains a failure.
        if args.log is None and code == EXIT_STOPPED:
            log.unlink(missing_ok=True)
    return code


def _serve(args: argparse.Namespace, log: Path) -> int:
    server = TritonServer(config_of(args, log))
    supervisor = Supervisor(server, restart=args.restart)
    try:
        signal.signal(signal.SIGTERM, _request_stop)
        supervisor.start()
        # Until then, Ctrl-C raises KeyboardInterrupt as in every command.
        signal.signal(signal.SIGINT, _request_stop)
        supervisor.show()
        if args.run:
            code = supervisor.run(args.run)
            if args.exit_after:
                return code
        return supervisor.wait()
    except StopRequested as request:
        report("stopping after the running requests")
        # The command of --run did not finish, so the code is that of a shell.
        return 128 + request.number if args.exit_after else EXIT_STOPPED
    finally:
        # A second signal must not interrupt the draining.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        server.stop()


def _new_log() -> Path:
    """Create a temporary log whose name other users cannot predict, so they cannot place a link there."""
    descriptor, name = tempfile.mkstemp(prefix="resnet-serve-", suffix=".log")
    os.close(descriptor)
    return Path(name)


def _request_stop(number: int, _frame: FrameType | None) -> NoReturn:
    raise StopRequested(number)


def config_of(args: argparse.Namespace, log: Path) -> ServerConfig:
    """Return the configuration of the server, from the options of :func:`parser`.

    Raises:
        ServerError: the admin token file cannot be read or created.
    """
    given = {field.name: getattr(args, field.name) for field in dataclasses.fields(ServerConfig) if field.name in args}
    token = access.token_from(args.admin_token_file) if args.admin_token_file else None
    return ServerConfig(**given | {"log": log, "admin_token": token, "triton_args": tuple(args.triton_args)})


class _Parser(argparse.ArgumentParser):
    """Refuses options that require each other or cannot be used together."""

    def parse_args(self, args: Iterable[str] | None = None, namespace: Any = None) -> Any:
        found = super().parse_args(args, namespace)
        if found.exit_after and not found.run:
            self.error("--exit-after requires --run COMMAND")
        if found.run and shutil.which(found.run[0]) is None:
            self.error(f"--run: {found.run[0]} was not found, or cannot be executed")
        if found.triton_args and not found.triton_args[0].startswith("-"):
            self.error(
                f"unexpected argument {found.triton_args[0]!r}: to serve a folder, use --repository "
                f"{shlex.quote(found.triton_args[0])}; flags of tritonserver follow --"
            )
        if found.no_http and found.unsafe_http_host:
            self.error("--no-http and --unsafe-http-host cannot be used together")
        return found


def parser() -> argparse.ArgumentParser:
    """Return the parser; an option that sets a field of :class:`ServerConfig` has its name and its default."""
    parser = _Parser(
        prog="resnet-serve",
        description="Serve a model repository with NVIDIA's tritonserver, without Docker.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    default = ServerConfig(repository="model_repository")
    _add_server(parser.add_argument, default)
    add = parser.add_argument
    add("--restart", action="store_true", help="Start the server again after each crash")
    add(
        "--run",
        type=_command_line,
        metavar="COMMAND",
        help="Run a command when the server is ready. It gets the server's addresses in RESNET_URL (gRPC), "
        "RESNET_HTTP_URL and RESNET_METRICS_URL, and the admin token in RESNET_ADMIN_TOKEN. For shell syntax use "
        "sh -c '…'",
    )
    add("--exit-after", action="store_true", help="Stop when the command of --run ends, with its exit code")
    add("triton_args", nargs="*", metavar="-- FLAG", help="Flags of tritonserver itself")
    _add_addresses(parser.add_argument_group("addresses").add_argument, default)
    _add_access(parser.add_argument_group("access and TLS").add_argument, default)
    return parser


def _add_server(add: Callable[..., object], default: ServerConfig) -> None:
    about = "Model repository to serve (default: model_repository)"
    add("--repository", type=Path, default=default.repository, metavar="DIR", help=about)
    add(
        "--models",
        type=_models,
        metavar="NAMES",
        help="Models to load, with commas between them; those that an ensemble uses are loaded, too; all: all models "
        f"(default: {ClientConfig.model} if the repository has it, else all)",
    )
    add(
        "--model-config-name",
        type=_model_config_name,
        metavar="NAME",
        help="Use <model>/configs/NAME.pbtxt instead of config.pbtxt for each model that has this file; none: always "
        "config.pbtxt (default: tuned, from resnet-loadtest tune, if a model has it, else local, from resnet-build)",
    )
    add("--log", type=Path, metavar="FILE", help="Write Triton's log to FILE (default: a temporary file)")
    ready_s, exit_s = default.ready_timeout_s, default.exit_timeout_s
    about = f"Maximum time for startup, until the models are ready (default: {ready_s:.0f})"
    add("--ready-timeout-s", type=between(float, 0.1, _LONGEST_S), default=ready_s, metavar="SECONDS", help=about)
    about = f"Maximum time to wait for running requests when stopping (default: {exit_s})"
    add("--exit-timeout-s", type=between(int, 0, _LONGEST_S), default=exit_s, metavar="SECONDS", help=about)


def _add_addresses(add: Callable[..., object], default: ServerConfig) -> None:
    about = f"HTTP port; gRPC uses the next one, metrics the one after; 0: free ports (default: {default.port})"
    add("--port", type=between(int, 0, ports.HIGHEST - 2), default=default.port, metavar="N", help=about)
    about = f"Address for gRPC; 0.0.0.0: all interfaces (default: {default.host})"
    add("--host", default=default.host, metavar="HOST", help=about)
    about = f"Address for HTTP; anyone who can connect to it can crash the server (default: {LOOPBACK})"
    add("--unsafe-http-host", default="", metavar="HOST", help=about)
    about = f"Address for the Prometheus metrics (default: {LOOPBACK})"
    add("--metrics-host", default="", metavar="HOST", help=about)
    about = "Answer clients over gRPC only: HTTP gets a random local port that requires the admin token"
    add("--no-http", action="store_true", help=about)


def _add_access(add: Callable[..., object], default: ServerConfig) -> None:
    add(
        "--open-apis",
        type=_apis,
        default=default.open_apis,
        metavar="NAMES",
        help="APIs that need no admin token, in addition to health and inference: none, all, or some of "
        f"{', '.join(APIS)}, with commas between them (default: {','.join(default.open_apis)})",
    )
    about = "File with the admin token; created if missing (default: RESNET_ADMIN_TOKEN, else a random token)"
    add("--admin-token-file", type=Path, metavar="FILE", help=about)
    add("--tls-certificate", type=Path, metavar="FILE", help="Server certificate (PEM), for TLS over gRPC")
    add("--tls-key", type=Path, metavar="FILE", help="Private key of the server certificate (PEM)")
    about = "Certificate authorities (PEM); clients need a certificate that one of them signed (mutual TLS)"
    add("--tls-client-ca", type=Path, metavar="FILE", help=about)


def _apis(text: str) -> tuple[str, ...]:
    """Parse ``none``, ``all``, or names with commas between them."""
    return {"none": (), "all": APIS}.get(text, tuple(text.split(",")))


def _models(text: str) -> tuple[str, ...]:
    """Parse ``all``, or names with commas between them."""
    return ALL_MODELS if text == "all" else tuple(text.split(","))


def _model_config_name(text: str) -> str:
    return "" if text == "none" else text


def _command_line(text: str) -> list[str]:
    """Split ``--run`` as a shell would."""
    try:
        words = shlex.split(text)
    except ValueError as exc:
        raise argparse.ArgumentTypeError(f"{exc}: {text}") from exc
    if not words:
        raise argparse.ArgumentTypeError("expected a command")
    return words
