"""The commands of ``resnet-loadtest``."""

from __future__ import annotations

import argparse
import contextlib
import datetime
import logging
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from rich.console import Console

from resnet_loadtest import enable_gevent
from resnet_loadtest.errors import UsageError
from resnet_loadtest.options import Kind

if TYPE_CHECKING:  # they need pydantic, which the base installation does not have
    from resnet_loadtest.analysis import Run
    from resnet_loadtest.compare import Comparison
    from resnet_loadtest.records import Recorder
    from resnet_loadtest.search import Result

RUN_RESULTS = {
    0: "PASS (every objective is met) or MEASURED (a valid run without objectives)",
    1: "FAIL: an objective is not met",
    2: "INVALID: the results are not valid; the summary gives the reasons",
    3: "the run could not start, lost a worker (WORKER LOST) or the server (UNREACHABLE: no response for --timeout-s), "
    "or has no report",
    130: "INTERRUPTED (Ctrl-C, SIGTERM, or killed); if the run had started, the report has what was measured",
}


class Command(NamedTuple):
    """A command.

    Attributes:
        name: on the command line.
        help: one line for ``--help``.
        add_options: declares its options.
        run: runs the command; returns the exit code.
        results: what the exit codes mean that `run` returns.
    """

    name: str
    help: str
    add_options: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace, Console], int]
    results: Mapping[int, str]


def add_option(parser: argparse.ArgumentParser, flag: str, kind: Kind, default: Any, description: str) -> None:
    """Add an option that only this command has."""

    def parse(text: str) -> Any:
        try:
            return kind.parse(text)
        except ValueError as exc:
            raise argparse.ArgumentTypeError(f"invalid value {text!r}: expected {kind.expected}") from exc

    about = description if default is None else f"{description} (default: %(default)s)"
    parser.add_argument(flag, type=parse, default=default, metavar=kind.metavar, help=about)


def prepare_load() -> None:
    """Patch for gevent, and silence Locust, which logs each user that it starts."""
    enable_gevent()
    logging.basicConfig(level=logging.ERROR)


def stem(kind: str) -> str:
    """The name of reports for which the user gave none: what was done, and the time."""
    return f"{kind}-{datetime.datetime.now().astimezone():%Y%m%d-%H%M%S}"


@contextlib.contextmanager
def recording(folder: Path, name: str) -> Iterator[Recorder]:
    """Create the file ``NAME.partial`` before anything is measured; delete it when there is a report.

    Raises:
        UsageError: the name is not one of a file, the file exists, or the folder is not writable.
    """
    from resnet_client.printing import warn

    from resnet_loadtest.records import PARTIAL_SUFFIX, Recorder

    if Path(name).name != name or not name.isprintable():
        raise UsageError(f"invalid --name {name!r}: expected the name of a file, without a folder")
    try:
        recorder = Recorder(folder / f"{name}{PARTIAL_SUFFIX}")
    except OSError as exc:
        raise UsageError(f"no report can be written to --out {folder}: {exc.strerror}") from exc
    try:
        yield recorder
    except BaseException:
        if recorder.is_empty:
            recorder.delete()
        else:
            warn(f"no report was written; `resnet-loadtest report {recorder.path}` reports what was measured")
        raise
    recorder.delete()


def write_reports(console: Console, result: Run | Result | Comparison, folder: Path, name: str) -> None:
    """Write reports to the folder, or to a temporary one if its disk is full, and print where they are."""
    from resnet_client.printing import warn

    from resnet_loadtest.report import write

    try:
        paths = write(result, folder, name)
    except OSError as exc:
        other = Path(tempfile.mkdtemp(prefix="resnet-loadtest-"))
        warn(f"the reports cannot be written to {folder}: {exc}; writing to {other}")
        paths = write(result, other, name)
    for path in paths:
        console.print(f"  {path}")
