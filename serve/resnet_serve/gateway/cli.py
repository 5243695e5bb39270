"""The command line of ``resnet-serve gateway``."""

from __future__ import annotations

import argparse
import logging
import math
import os
import signal
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import resnet_command
from resnet_client import ClientConfig, ConfigurationError
from resnet_client.cli.options import add_client_options, between, client_options
from resnet_client.endpoints import bracketed
from resnet_client.printing import report, warn

from resnet_serve import ports

EXIT_STOPPED, EXIT_USAGE, EXIT_NOT_STARTED = 0, 2, 3
KEYS_VARIABLE = "RESNET_GATEWAY_API_KEYS"

_CLIENT_OPTIONS = ("url", "model", "timeout_s", "ca_certificate", "client_certificate", "client_key")
# Longer than clients and proxies keep an idle connection, so that the gateway does not close one during a request.
_KEEP_ALIVE_S = 75
_MAX_HEAD_BYTES = 16 * 2**10
_EPILOG = f"""\
An option takes precedence over the environment variable in brackets.
--timeout-s also limits the time in which a request has to arrive.
Without --api-key-file, {KEYS_VARIABLE} can contain API keys, separated by commas.

exit codes:
  0  a signal stopped the gateway
  2  wrong usage, or the extra gateway is not installed
  3  the gateway could not start

example:
  resnet-serve gateway
  curl --data-binary @cat.jpg localhost:8080/v1/classify
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    args = parser().parse_args(argv)
    try:
        config = ClientConfig.resolve(client_options(args))
        keys = _api_keys(args.api_key_file)
        family = socket.AF_INET6 if ":" in args.host else socket.AF_INET
        listener = socket.create_server((args.host, args.port), family=family, backlog=512)
        # asyncio sets this only on sockets of its own; without it a response waits 40 ms for an acknowledgement.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except ConfigurationError as exc:
        return _fail(exc, EXIT_USAGE)
    except OSError as exc:
        remedy = "" if exc.filename else "; choose another --host, or another --port (0: a free one)"
        return _fail(f"could not start: {exc}{remedy}", EXIT_NOT_STARTED)
    try:
        _serve(args, config, keys, listener)
    except ModuleNotFoundError as exc:
        return _fail(resnet_command.not_installed(str(exc.name).partition(".")[0], "gateway"), EXIT_USAGE)
    finally:
        listener.close()
    return EXIT_STOPPED


def _serve(args: argparse.Namespace, config: ClientConfig, keys: tuple[str, ...], listener: socket.socket) -> None:
    import uvicorn

    from resnet_serve.gateway.app import Gateway
    from resnet_serve.gateway.protocol import BoundedProtocol
    from resnet_serve.gateway.request_checks import Access

    _log()
    BoundedProtocol.read_timeout_s = config.timeout_s
    host, port = listener.getsockname()[:2]
    access = Access((bracketed(host), args.host.lower(), *args.allowed_hosts), args.allowed_origins, keys)
    max_body_bytes = args.max_body_mib * 2**20
    gateway = Gateway(config, access, max_body_bytes=max_body_bytes, max_in_flight=args.max_in_flight)
    server = uvicorn.Server(
        uvicorn.Config(
            gateway.app(),
            http=BoundedProtocol,
            ws="none",
            lifespan="on",
            log_config=None,
            proxy_headers=False,
            server_header=False,
            headers=[("X-Content-Type-Options", "nosniff")],
            h11_max_incomplete_event_size=_MAX_HEAD_BYTES,
            timeout_keep_alive=_KEEP_ALIVE_S,
            timeout_graceful_shutdown=math.ceil(config.timeout_s),
        )
    )
    # uvicorn raises the signal again after its shutdown.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _stop)
    url = f"http://{bracketed(host)}:{port}"
    report(f"{url}  (API: {url}/docs)")
    server.run(sockets=[listener])


def _log() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    # The first logs every start, the second parts of request bodies.
    for name, level in (("uvicorn.error", logging.WARNING), ("python_multipart", logging.ERROR)):
        logging.getLogger(name).setLevel(level)


def _stop(_number: int, _frame: object) -> NoReturn:
    raise SystemExit(EXIT_STOPPED)


def _fail(message: object, code: int) -> int:
    warn(f"resnet-serve gateway: {message}")
    return code


def _api_keys(path: Path | None) -> tuple[str, ...]:
    """Return the keys of the file, one per line, or of the environment.

    Raises:
        ConfigurationError: the file is empty, or a key has characters that a header cannot contain.
        OSError: it cannot be read.
    """
    if path is None:
        keys = [key.strip() for key in os.environ.get(KEYS_VARIABLE, "").split(",") if key.strip()]
    else:
        keys = path.read_text(encoding="utf-8").split()
        if not keys:
            raise ConfigurationError(f"--api-key-file {path} is empty: expected one key per line")
    if not all(key.isascii() and key.isprintable() for key in keys):
        raise ConfigurationError("API keys must be printable ASCII characters without spaces")
    return tuple(keys)


def parser() -> argparse.ArgumentParser:
    """Return the parser."""
    parser = argparse.ArgumentParser(
        prog="resnet-serve gateway",
        description="Classify images over plain HTTP and JSON, for curl and browsers, in front of a Triton server.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--host", default="127.0.0.1", metavar="HOST", help="Address to listen on (default: %(default)s)")
    about = "Port; 0: a free one (default: %(default)s)"
    add("--port", type=between(int, 0, ports.HIGHEST), default=8080, metavar="N", help=about)
    about = "Largest request body in MiB (default: %(default)s)"
    add("--max-body-mib", type=between(int, 1, 128), default=16, metavar="N", help=about)
    about = "Requests at once; further ones are refused with status 429 (default: %(default)s)"
    add("--max-in-flight", type=between(int, 1, 10_000), default=64, metavar="N", help=about)
    about = "Host names to accept in the Host header, in addition to --host and localhost, with commas between them"
    add("--allowed-hosts", type=_names, default=(), metavar="NAMES", help=about)
    about = "Origins whose browser pages may send requests, such as https://app.example.org, with commas between them"
    add("--allowed-origins", type=_names, default=(), metavar="ORIGINS", help=about)
    about = "API keys, one per line; each request with an image then needs one"
    add("--api-key-file", type=Path, metavar="FILE", help=about)
    add_client_options(parser.add_argument_group("server and TLS"), _CLIENT_OPTIONS)
    return parser


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip().lower().rstrip("/") for name in text.split(",") if name.strip())
