"""The command ``resnet-serve rollout``."""

from __future__ import annotations

import argparse
import dataclasses
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from resnet_client import Client, ClientConfig, ConfigurationError

from resnet_serve.rollout.comparison import Bounds
from resnet_serve.rollout.control import ModelControl
from resnet_serve.rollout.errors import RolloutError
from resnet_serve.rollout.plan import Options
from resnet_serve.rollout.procedure import Rollout

EXIT_SERVED, EXIT_REFUSED, EXIT_USAGE, EXIT_NOT_DONE = 0, 1, 2, 3

# Those of the client that say where the server is and how it is reached; they are described there.
_CLIENT_OPTIONS = ("url", "admin_token", "ca_certificate", "client_certificate", "client_key")
_REPOSITORY = Path("model_repository")
_EPILOG = """\
exit codes: 0 the version is in service (after --dry-run: would be), 1 it was refused, and the old one serves on,
2 wrong usage, 3 it could not be carried out, and the old one serves on

examples:
  resnet-build --weights better.pth --model-version 2
  resnet-serve rollout --model-version 2
  resnet-serve rollout --model-version 1              go back, at once
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    args = _parser().parse_args(argv)
    # So that the copies are unloaded, whoever ends us.
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    given = {name: getattr(args, name) for name in _CLIENT_OPTIONS}
    try:
        config = ClientConfig.resolve(given)
        with (
            ModelControl(config, load_timeout_s=args.load_timeout_s) as server,
            Client(**given, timeout_s=config.timeout_s, retry_overload=True) as client,
        ):
            served = Rollout(server, client, _options(args), _say).run()
    except ConfigurationError as exc:
        _complain(str(exc))
        return EXIT_USAGE
    except RolloutError as exc:
        _complain(str(exc))
        return EXIT_NOT_DONE
    except KeyboardInterrupt:
        _complain("interrupted; what was in service still is")
        return EXIT_NOT_DONE
    finally:
        signal.signal(signal.SIGTERM, before)
    return EXIT_SERVED if served else EXIT_REFUSED


def _options(args: argparse.Namespace) -> Options:
    repository: Path | None = args.repository
    if repository is None and _REPOSITORY.is_dir():
        repository = _REPOSITORY
    return Options(
        version=args.model_version,
        models=tuple(args.model),
        repository=repository,
        artifact=args.artifact,
        images=args.images,
        calls=args.calls,
        bounds=Bounds(args.min_agreement, args.max_p99_ratio),
        dry_run=args.dry_run,
    )


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _complain(sentence: str) -> None:
    sys.stderr.write(f"resnet-serve rollout: {sentence}\n")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="resnet-serve rollout",
        description="Bring a new version of the networks into service, without a failed request, or refuse it.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--model-version", type=_number, required=True, metavar="N", help="version that is to be in service"
    )
    parser.add_argument(
        "--model",
        action="append",
        default=[],
        metavar="NAME",
        help="network to roll out; may be repeated (default: all in service that have this version)",
    )
    parser.add_argument(
        "--repository",
        type=_folder,
        metavar="DIR",
        help="the repository that the server reads, or a copy of it (default: model_repository, if it is here)",
    )
    parser.add_argument(
        "--artifact", type=_file, metavar="FILE", help="the new version's file, if it is in no repository yet"
    )
    parser.add_argument("--dry-run", action="store_true", help="compare only")
    _add_comparison_options(parser.add_argument_group("comparison"))
    _add_client_options(parser.add_argument_group("server"))
    return parser


def _add_comparison_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--images",
        type=_folder,
        metavar="DIR",
        help="photos to compare on (default: crops of those that packages ship)",
    )
    group.add_argument(
        "--calls", type=_number, default=100, metavar="N", help="pictures, and timed calls per version (default 100)"
    )
    group.add_argument(
        "--min-agreement",
        type=_share,
        default=0.99,
        metavar="SHARE",
        help="least share of pictures with the same top-1 (default 0.99)",
    )
    group.add_argument(
        "--max-p99-ratio",
        type=_positive,
        default=1.3,
        metavar="X",
        help="how many times as long the slowest calls (p99) may take (default 1.3)",
    )


def _add_client_options(group: argparse._ArgumentGroup) -> None:
    for field in dataclasses.fields(ClientConfig):
        if field.name in _CLIENT_OPTIONS:
            about = f"{field.metadata['help']} [RESNET_{field.name.upper()}]"
            flag = f"--{field.name.replace('_', '-')}"
            group.add_argument(flag, type=field.metadata["parse"], metavar=field.name.upper(), help=about)
    group.add_argument(
        "--load-timeout-s",
        type=_positive,
        default=300.0,
        metavar="S",
        help="longest wait for a version to load and warm up (default 300)",
    )


def _number(text: str) -> int:
    return int(_within(text, int, lambda value: value >= 1, "a whole number of at least 1"))


def _share(text: str) -> float:
    return float(_within(text, float, lambda value: 0 <= value <= 1, "a share between 0 and 1"))


def _positive(text: str) -> float:
    return float(_within(text, float, lambda value: 0 < value < float("inf"), "a positive number"))


def _within(text: str, parse: Any, fits: Any, what: str) -> Any:
    try:
        value = parse(text)
    except ValueError:
        value = None
    if value is None or not fits(value):
        raise argparse.ArgumentTypeError(f"{text!r} is not {what}")
    return value


def _folder(text: str) -> Path:
    return Path(_within(text, Path, Path.is_dir, "a folder here"))


def _file(text: str) -> Path:
    return Path(_within(text, Path, Path.is_file, "a file here"))
