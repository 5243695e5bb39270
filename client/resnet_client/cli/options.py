"""The options of all commands; those of the client are the fields of :class:`ClientConfig`."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resnet_client.cli.exit_codes import ExitCode
from resnet_client.client import Client
from resnet_client.config import ClientConfig, environment_name
from resnet_client.errors import ConfigurationError
from resnet_client.images import find

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


def build_parser(commands: Iterable[Any]) -> argparse.ArgumentParser:
    """The parser of ``resnet-client``."""
    codes = "\n".join(f"  {int(code):<4} {code.meaning}" for code in ExitCode)
    epilog = f"Options may also be set by the variables named with them.\n\nexit codes:\n{codes}"
    shape = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        "resnet-client",
        description="Classify images with a served ResNet-50.",
        epilog=epilog,
        formatter_class=shape,
    )
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True)
    for command in commands:
        subparser = subparsers.add_parser(
            command.NAME,
            help=command.HELP,
            description=command.HELP,
            epilog=epilog,
            formatter_class=shape,
            conflict_handler="resolve",  # `evaluate` has a --model of its own
        )
        _add_client_options(subparser)
        command.add_options(subparser)
        subparser.set_defaults(run=command.run)
    return parser


def add_images(parser: argparse.ArgumentParser) -> None:
    """What the commands over images share."""
    # No type=Path: it would make `https:/` of `https://`, and the message about URLs would not appear.
    parser.add_argument("paths", nargs="+", type=named, metavar="PATH", help="image, or folder to search for images")
    add_in_flight(parser)


def named(path: str) -> str:
    """Refuse an empty path, such as a variable of the shell that is not set: it would mean the current folder."""
    if not path:
        raise argparse.ArgumentTypeError("the path is empty; the current folder is '.'")
    return path


def add_in_flight(parser: argparse.ArgumentParser) -> None:
    """How many images at once."""
    parser.add_argument("--max-in-flight", type=int, default=16, metavar="N", help="images at once (default: 16)")


def images(paths: Iterable[str]) -> Iterator[str | Path]:
    """All images, folders searched."""
    for path in paths:
        if Path(path).is_dir():
            yield from find(Path(path))
        else:
            yield path


def open_client(options: argparse.Namespace) -> Client:
    """A client with the options given; the rest comes from environment and defaults."""
    names = {field.name for field in dataclasses.fields(ClientConfig)}
    return Client(**{name: value for name, value in vars(options).items() if name in names})


def _add_client_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("server and client")
    for field in dataclasses.fields(ClientConfig):
        about = f"{field.metadata['help']} [{environment_name(field.name)}; default: {field.default}]"
        flag = "--" + field.name.replace("_", "-")
        if isinstance(field.default, bool):
            group.add_argument(flag, action="store_true", default=None, help=about)
        else:
            group.add_argument(flag, type=_reader(field), default=None, metavar=field.name.upper(), help=about)


def _reader(field: dataclasses.Field[Any]) -> Any:
    def read(text: str) -> Any:
        try:
            return field.metadata["parse"](text)
        except (ValueError, KeyError) as exc:
            raise argparse.ArgumentTypeError(f"{text!r} is not {field.metadata['help']}") from exc

    return read


def refuse_empty(count: int, paths: Iterable[str]) -> None:
    """A run over nothing is a mistake of the caller's."""
    if not count:
        where = ", ".join(paths)
        raise ConfigurationError(f"there is no image in {where}")
