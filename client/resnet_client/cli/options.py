"""The parser of ``resnet-client``, and options that commands share, such as the fields of ``ClientConfig``."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import importlib.util
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

import resnet_command

from resnet_client.cli.exit_codes import ExitCode
from resnet_client.client import Client
from resnet_client.config import ClientConfig, environment_name
from resnet_client.images import find

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Iterator

Number = TypeVar("Number", int, float)

_MODEL_OPTIONS = ("model", "model_version", "preprocessing")


def between(kind: Callable[[str], Number], least: Number, most: Number) -> Callable[[str], Number]:
    """Return the parser of a number, ``int`` or ``float``, between two others, both included.

    An integer is written in decimal digits only; Python would also accept ``1_000``.
    """
    is_integer = kind is int

    def parse(text: str) -> Number:
        with contextlib.suppress(ValueError):
            is_written_plainly = not is_integer or (text.isascii() and text.isdigit())
            if is_written_plainly and least <= (value := kind(text)) <= most:
                return value
        expected = "an integer" if is_integer else "a number"
        raise argparse.ArgumentTypeError(f"invalid value {text!r}: expected {expected} from {least} to {most}")

    return parse


positive = between(int, 1, 10**9)


def build_parser(commands: Iterable[Any]) -> argparse.ArgumentParser:
    """The parser of ``resnet-client``."""
    codes = "\n".join(f"  {int(code):<4} {code.meaning}" for code in ExitCode)
    epilog = f"An option takes precedence over the environment variable in brackets.\n\nexit codes:\n{codes}"
    shape = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        "resnet-client",
        description="Classify images with a served ResNet-50.",
        epilog=epilog,
        formatter_class=shape,
    )
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True)
    fields = dataclasses.fields(ClientConfig)
    for command in commands:
        subparser = subparsers.add_parser(
            command.NAME,
            help=command.HELP,
            description=command.HELP,
            epilog=epilog,
            formatter_class=shape,
            conflict_handler="resolve",  # `evaluate` has a --model of its own
        )
        if command.NAME not in {"models", "load"}:  # not about one model that answers requests
            add_client_options(subparser, _MODEL_OPTIONS)
        command.add_options(subparser)
        group = subparser.add_argument_group("server and TLS")
        add_client_options(group, [field.name for field in fields if field.name not in _MODEL_OPTIONS])
        subparser.set_defaults(run=command.run)
    return parser


def add_images(parser: argparse.ArgumentParser) -> None:
    """Add the options of commands that read images."""
    # No type=Path: it changes `https://` to `https:/`, and the message about URLs would not appear.
    parser.add_argument(
        "paths",
        nargs="+",
        type=named,
        metavar="PATH",
        help="Image, folder to search for images, or - for standard input",
    )
    add_in_flight(parser)


def named(path: str) -> str:
    """Refuse an empty path, such as an unset shell variable: it would be the current folder."""
    if not path:
        raise argparse.ArgumentTypeError("the path is empty; the current folder is '.'")
    return path


def html_file(path: str) -> Path:
    """Refuse a page that cannot be written, before the work begins."""
    for package in ("jinja2", "plotly"):
        if importlib.util.find_spec(package) is None:
            raise argparse.ArgumentTypeError(resnet_command.not_installed(package, "report"))
    file = Path(named(path))
    if not file.parent.is_dir():
        raise argparse.ArgumentTypeError(f"there is no folder {file.parent}")
    return file


def add_in_flight(parser: argparse.ArgumentParser) -> None:
    """Add ``--max-in-flight``."""
    about = "Images in flight at once (default: 16)"
    parser.add_argument("--max-in-flight", type=positive, default=16, metavar="N", help=about)


def images(paths: Iterable[str]) -> Iterator[str | Path | BinaryIO]:
    """All images of the paths; folders are searched, and ``-`` is standard input."""
    for path in paths:
        if path == "-":
            yield sys.stdin.buffer
        elif os.path.isdir(path):  # noqa: PTH112  # unlike Path.is_dir it raises no error
            yield from find(Path(path))
        else:
            yield path


def client_options(options: argparse.Namespace) -> dict[str, Any]:
    """The given options that are fields of ``ClientConfig``."""
    names = {field.name for field in dataclasses.fields(ClientConfig)}
    return {name: value for name, value in vars(options).items() if name in names}


def open_client(options: argparse.Namespace, **more: Any) -> Client:
    """A client with the given options; the others come from the environment and the defaults."""
    return Client(**client_options(options) | more)


def add_client_options(group: argparse._ActionsContainer, names: Container[str]) -> None:
    """Add the options that are these fields of ``ClientConfig``, in its order."""
    for field in dataclasses.fields(ClientConfig):
        if field.name not in names:
            continue
        default = "" if field.default in (None, False) else f"; default: {field.default}"
        about = f"{field.metadata['help']} [{environment_name(field.name)}{default}]"
        flag = "--" + field.name.replace("_", "-")
        if isinstance(field.default, bool):
            group.add_argument(flag, action="store_true", default=None, help=about)
        else:
            group.add_argument(flag, type=_reader(field), default=None, metavar=field.metadata["metavar"], help=about)


def _reader(field: dataclasses.Field[Any]) -> Any:
    def read(text: str) -> Any:
        try:
            return field.metadata["parse"](text)
        except (ValueError, KeyError) as exc:
            raise argparse.ArgumentTypeError(f"invalid value {text!r}: expected {field.metadata['expected']}") from exc

    return read
