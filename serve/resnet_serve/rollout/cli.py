"""The command line of ``resnet-serve rollout``."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import resnet_command
from resnet_client import Client, ClientConfig, ConfigurationError, ResnetClientError
from resnet_client.admin import ModelControl
from resnet_client.printing import report, warn

from resnet_serve.rollout.rollout import Rollout, RolloutError

EXIT_IN_SERVICE, EXIT_REFUSED, EXIT_USAGE, EXIT_FAILED = 0, 1, 2, 3

# Option of the client → the name of its value, and its help.
_CLIENT_OPTIONS = {
    "url": ("URL", "gRPC address of one Triton server (default: grpc://localhost:8001)"),
    "admin_token": ("TOKEN", "Admin token, which loading models requires"),
    "ca_certificate": ("FILE", "Certificate authorities to trust (PEM), for TLS"),
    "client_certificate": ("FILE", "Client certificate (PEM), for mutual TLS"),
    "client_key": ("FILE", "Private key of the client certificate (PEM)"),
}
_DEFAULT = "(default: %(default)s)"
_EPILOG = """\
An option takes precedence over the environment variable in brackets.

exit codes:
  0  the new version is in service (with --dry-run: it passed the comparison)
  1  the new version was refused; the old one stays in service
  2  wrong usage
  3  the rollout failed; the old version stays in service, unless the message states otherwise
  130  interrupted (Ctrl-C); the old version stays in service

examples:
  resnet-build --weights better.pth --model-version 2
  resnet-serve rollout --model-version 2
  resnet-serve rollout --model-version 1              go back to version 1
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    options = parser().parse_args(argv)
    given = {name: getattr(options, name) for name in _CLIENT_OPTIONS}
    # Both raise KeyboardInterrupt, also during an import, so that the copies are unloaded.
    handlers = {number: signal.signal(number, signal.default_int_handler) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with (
            ModelControl(ClientConfig.resolve(given), load_timeout_s=options.load_timeout_s) as control,
            Client(**given, retry_overload=True) as client,
        ):
            in_service = Rollout(control, client, options, report).run()
    except ConfigurationError as exc:
        return _fail(exc, EXIT_USAGE)
    except (RolloutError, ResnetClientError, OSError) as exc:
        return _fail(exc, EXIT_FAILED)
    except KeyboardInterrupt:
        return _fail("interrupted; the old version stays in service", resnet_command.EXIT_INTERRUPTED)
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    return EXIT_IN_SERVICE if in_service else EXIT_REFUSED


def _fail(message: object, code: int) -> int:
    warn(f"resnet-serve rollout: {message}")
    return code


def _checked(kind: Callable[[str], Any], is_valid: Callable[[Any], bool], expected: str) -> Callable[[str], Any]:
    def parse(text: str) -> Any:
        with contextlib.suppress(ValueError):
            if is_valid(value := kind(text)):
                return value
        raise argparse.ArgumentTypeError(f"invalid value {text!r}: expected {expected}")

    return parse


_count = _checked(int, lambda value: value >= 1, "an integer of at least 1")
_positive = _checked(float, lambda value: 0 < value < float("inf"), "a positive number")
_share = _checked(float, lambda value: 0 <= value <= 1, "a share between 0 and 1")
_directory = _checked(Path, Path.is_dir, "an existing directory")
_file = _checked(Path, Path.is_file, "an existing file")


def parser() -> argparse.ArgumentParser:
    """Return the parser."""
    parser = argparse.ArgumentParser(
        prog="resnet-serve rollout",
        description="Compare a new version of the networks with the served one, and switch if it passes.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--model-version", type=_count, required=True, metavar="N", help="Version to switch to")
    about = "Network to roll out, such as network_onnx; may be repeated (default: all that have this version)"
    add("--model", action="append", default=[], metavar="NAME", help=about)
    about = f"Model repository that the server reads, or a copy of it {_DEFAULT}"
    add("--repository", type=_directory, default=Path("model_repository"), metavar="DIR", help=about)
    add("--artifact", type=_file, metavar="FILE", help="File of the new version, if it is not in the repository yet")
    add("--dry-run", action="store_true", help="Compare only, and change nothing")
    _add_comparison(parser.add_argument_group("comparison").add_argument)
    _add_server(parser.add_argument_group("server and TLS").add_argument)
    return parser


def _add_comparison(add: Callable[..., object]) -> None:
    about = "Images to compare on (default: crops of images that scikit-image and scikit-learn bundle)"
    add("--images", type=_directory, metavar="DIR", help=about)
    about = f"Number of images, and of timed calls per version {_DEFAULT}"
    add("--calls", type=_count, default=100, metavar="N", help=about)
    about = f"Required share of images with the same top-1 class, 0 to 1 {_DEFAULT}"
    add("--min-agreement", type=_share, default=0.99, metavar="SHARE", help=about)
    about = f"Maximum p99 latency of the new version, divided by that of the old version {_DEFAULT}"
    add("--max-p99-ratio", type=_positive, default=1.3, metavar="RATIO", help=about)


def _add_server(add: Callable[..., object]) -> None:
    for field in dataclasses.fields(ClientConfig):
        if field.name in _CLIENT_OPTIONS:
            metavar, text = _CLIENT_OPTIONS[field.name]
            about = f"{text} [RESNET_{field.name.upper()}]"
            add(f"--{field.name.replace('_', '-')}", type=field.metadata["parse"], metavar=metavar, help=about)
    about = f"Maximum time to load and warm up a version {_DEFAULT}"
    add("--load-timeout-s", type=_positive, default=300, metavar="SECONDS", help=about)
