"""The command line of ``resnet-serve rollout``."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from resnet_client import Client, ClientConfig, ConfigurationError, ResnetClientError
from resnet_client.admin import ModelControl
from resnet_client.printing import report, warn

from resnet_serve.rollout.rollout import Rollout, RolloutError

EXIT_IN_SERVICE, EXIT_REFUSED, EXIT_USAGE, EXIT_FAILED = 0, 1, 2, 3

_CLIENT_OPTIONS = ("url", "admin_token", "ca_certificate", "client_certificate", "client_key")
_DEFAULT = "(default: %(default)s)"
_EPILOG = """\
exit codes: 0 the version is in service (with --dry-run: would be), 1 it was refused, and the old one stays in service,
2 wrong usage, 3 the rollout failed, and the old version stays in service

examples:
  resnet-build --weights better.pth --model-version 2
  resnet-serve rollout --model-version 2
  resnet-serve rollout --model-version 1              go back, at once
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    options = parser().parse_args(argv)
    given = {name: getattr(options, name) for name in _CLIENT_OPTIONS}
    # SIGTERM, too, unloads the copies first.
    handler = signal.signal(signal.SIGTERM, signal.default_int_handler)
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
        return _fail("interrupted; the old version stays in service", EXIT_FAILED)
    finally:
        signal.signal(signal.SIGTERM, handler)
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
        description="Bring a new version of the networks into service without a failed request, or refuse it.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--model-version", type=_count, required=True, metavar="N", help="version to bring into service")
    add(
        "--model",
        action="append",
        default=[],
        metavar="NAME",
        help="network, repeatable (default: all that have this version)",
    )
    add(
        "--repository",
        type=_directory,
        default=Path("model_repository"),
        metavar="DIR",
        help=f"the repository that the server reads, or a copy of it {_DEFAULT}",
    )
    add("--artifact", type=_file, metavar="FILE", help="the new version's file, if it is in no repository yet")
    add("--dry-run", action="store_true", help="compare only")
    _add_comparison(parser.add_argument_group("comparison").add_argument)
    _add_server(parser.add_argument_group("server").add_argument)
    return parser


def _add_comparison(add: Callable[..., object]) -> None:
    add("--images", type=_directory, metavar="DIR", help="images to compare on (default: example images)")
    add("--calls", type=_count, default=100, metavar="N", help=f"images, and timed calls per version {_DEFAULT}")
    add("--min-agreement", type=_share, default=0.99, help=f"least share of images with the same top-1 {_DEFAULT}")
    add("--max-p99-ratio", type=_positive, default=1.3, help=f"largest p99, relative to the old p99 {_DEFAULT}")


def _add_server(add: Callable[..., object]) -> None:
    for field in dataclasses.fields(ClientConfig):
        if field.name in _CLIENT_OPTIONS:
            about = f"{field.metadata['help']} [RESNET_{field.name.upper()}]"
            add(f"--{field.name.replace('_', '-')}", type=field.metadata["parse"], metavar="…", help=about)
    add("--load-timeout-s", type=_positive, default=300, help=f"longest time to load a version {_DEFAULT}")
