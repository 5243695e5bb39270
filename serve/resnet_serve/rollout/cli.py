"""The command line of ``resnet-serve rollout``."""

from __future__ import annotations

import argparse
import signal
from collections.abc import Callable, Sequence
from pathlib import Path

import resnet_command
from resnet_client import Client, ClientConfig, ConfigurationError, ResnetClientError
from resnet_client.admin import ModelControl
from resnet_client.cli.options import add_client_options, between
from resnet_client.printing import warn

from resnet_serve.rollout.rollout import Rollout, RolloutError

EXIT_IN_SERVICE, EXIT_REFUSED, EXIT_USAGE, EXIT_FAILED = 0, 1, 2, 3

_CLIENT_OPTIONS = ("url", "admin_token", "ca_certificate", "client_certificate", "client_key")
_DEFAULT = "(default: %(default)s)"
_MOST = 1_000_000
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
    for number in (signal.SIGINT, signal.SIGTERM):  # also during an import, so that the copy is unloaded
        signal.signal(number, signal.default_int_handler)
    try:
        with (
            ModelControl(ClientConfig.resolve(given), load_timeout_s=options.load_timeout_s) as control,
            Client(**given, retry_overload=True) as client,
        ):
            in_service = Rollout(control, client, options).run()
    except ConfigurationError as exc:
        return _fail(exc, EXIT_USAGE)
    except (RolloutError, ResnetClientError, OSError) as exc:
        return _fail(exc, EXIT_FAILED)
    except KeyboardInterrupt:
        return _fail("interrupted; the old version stays in service", resnet_command.EXIT_INTERRUPTED)
    return EXIT_IN_SERVICE if in_service else EXIT_REFUSED


def _fail(message: object, code: int) -> int:
    warn(f"resnet-serve rollout: {message}")
    return code


def parser() -> argparse.ArgumentParser:
    """Return the parser."""
    parser = argparse.ArgumentParser(
        prog="resnet-serve rollout",
        description="Compare a new version of the networks with the served one, and switch if it passes.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--model-version", type=between(int, 1, _MOST), required=True, metavar="N", help="Version to switch to")
    about = "Network to roll out, such as network_onnx; may be repeated (default: all that have this version)"
    add("--model", action="append", default=[], metavar="NAME", help=about)
    about = f"Model repository that the server reads, or a copy of it {_DEFAULT}"
    add("--repository", type=Path, default=Path("model_repository"), metavar="DIR", help=about)
    add("--dry-run", action="store_true", help="Compare only, and change nothing")
    about = f"Maximum time to load and warm up a version {_DEFAULT}"
    add("--load-timeout-s", type=between(float, 1, _MOST), default=300, metavar="SECONDS", help=about)
    _add_comparison(parser.add_argument_group("comparison").add_argument)
    add_client_options(parser.add_argument_group("server and TLS"), _CLIENT_OPTIONS)
    return parser


def _add_comparison(add: Callable[..., object]) -> None:
    about = "Images to compare on (default: crops of images that scikit-image and scikit-learn bundle)"
    add("--images", type=Path, metavar="DIR", help=about)
    about = f"Number of images, and of timed calls per version {_DEFAULT}"
    add("--calls", type=between(int, 1, _MOST), default=100, metavar="N", help=about)
    about = f"Required share of images with the same top-1 class, 0 to 1 {_DEFAULT}"
    add("--min-agreement", type=between(float, 0, 1), default=0.99, metavar="SHARE", help=about)
    about = f"Maximum p99 latency of the new version, divided by that of the old version {_DEFAULT}"
    add("--max-p99-ratio", type=between(float, 0, _MOST), default=1.3, metavar="RATIO", help=about)
