"""``resnet-client embed``: write the feature vectors of images to a NumPy file, or as JSON lines."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from resnet_client.cli.exit_codes import ExitCode, OutcomeCount
from resnet_client.cli.options import add_images, images, open_client
from resnet_client.errors import ConfigurationError
from resnet_client.images import describe
from resnet_client.printing import show

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    import numpy.typing as npt

    from resnet_client.results import Outcome

    Vector = npt.NDArray[np.float32]

NAME = "embed"
HELP = "Compute the feature vectors of images (2048 float32 values each)"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add images and output."""
    add_images(parser)
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FILE",
        help="FILE.npz: `features`, an array of shape (images, 2048), NaN where an image failed, and their names as "
        "`images`; default: one JSON object per image and line on standard output",
    )


def run(options: argparse.Namespace) -> ExitCode:
    """Embed and write."""
    if options.output is not None and options.output.suffix != ".npz":
        raise ConfigurationError(f"--output must end in .npz, not {options.output.name!r}")
    if options.output is not None and not options.output.parent.is_dir():
        raise ConfigurationError(f"{options.output} cannot be written: there is no folder {options.output.parent}")
    collected: list[tuple[str, Vector | None]] = []
    count = OutcomeCount()
    keep: Callable[[Outcome[Vector]], None] = (
        _write_line
        if options.output is None
        else lambda o: collected.append((describe(o.source), o.result if o.ok else None))
    )
    with open_client(options) as client:
        outcomes = client.embed_many(
            images(options.paths), max_in_flight=options.max_in_flight, progress=sys.stderr.isatty()
        )
        for outcome in count.watch(outcomes):
            keep(outcome)
    if count.has_results and options.output is not None:
        _save(options.output, collected)
    return count.finish(options.paths)


def _write_line(outcome: Outcome[Vector]) -> None:
    line: dict[str, Any] = {"image": describe(outcome.source)}
    if outcome.ok:
        line["features"] = outcome.result.tolist()
    else:
        line["error"] = str(outcome.error)
    show(json.dumps(line, ensure_ascii=False))


def _save(path: Path, collected: list[tuple[str, Vector | None]]) -> None:
    """Write to a temporary name and rename, so that an interrupted run leaves no partial file."""
    width = next(vector.size for _, vector in collected if vector is not None)
    missing = np.full(width, np.nan, dtype=np.float32)
    features = np.stack([missing if vector is None else vector for _, vector in collected])
    partial = path.with_name(f".{path.name}.partial")
    try:
        with partial.open("wb") as file:
            np.savez(file, features=features, images=np.array([name for name, _ in collected]))
        partial.replace(path)
    except OSError as exc:
        partial.unlink(missing_ok=True)
        raise ConfigurationError(f"{path} cannot be written: {exc.strerror}") from exc
