"""Train a classifier for your own classes, and print the command that builds and serves it.

``images/`` has one folder per class. A running server (`make serve`) computes the features, so that only the last layer
is trained, which takes seconds without a GPU:

    python examples/fine_tune.py images/
"""

from __future__ import annotations

import argparse
import csv
import shlex
import sys
from pathlib import Path

import torch
from resnet_build import BuildError
from resnet_build.weights import FileOptions, Weights, default_cache, load
from resnet_client import Client, ResnetClientError
from safetensors.torch import save_file
from torch import nn

HELD_OUT = 5  # every fifth image measures the accuracy


def features_of(folder: Path, names: list[str]) -> tuple[list[Path], torch.Tensor, torch.Tensor]:
    """Paths, features (images, 2048) and class numbers of the images in a folder per class, without broken images."""
    images = {path: number for number, name in enumerate(names) for path in sorted((folder / name).iterdir())}
    paths, features, classes = [], [], []
    with Client() as client:
        client.wait_until_ready(timeout_s=5)
        for outcome in client.embed_many(images, progress=True):
            if outcome.ok:
                paths.append(outcome.source)
                features.append(torch.from_numpy(outcome.result))
                classes.append(images[outcome.source])
            else:
                print(f"skipped: {outcome.error}", file=sys.stderr)
    if len(set(classes)) < len(names):
        sys.exit(f"{folder}: each class needs an image that can be read")
    return paths, torch.stack(features), torch.tensor(classes)


def train(features: torch.Tensor, classes: torch.Tensor, count: int) -> nn.Linear:
    """Fit a linear layer, with all images in one batch."""
    torch.manual_seed(1)
    head = nn.Linear(features.shape[1], count)
    optimizer = torch.optim.AdamW(head.parameters(), lr=1e-2, weight_decay=1e-2)
    for _ in range(200):
        optimizer.zero_grad()
        nn.functional.cross_entropy(head(features), classes).backward()
        optimizer.step()
    return head


def write(weights: Weights, head: nn.Linear, names: list[str], out: Path) -> list[str]:
    """Write the network with its new last layer, and the labels; returns the options of ``resnet-build`` for them."""
    tuned = {**weights.state_dict, "fc.weight": head.weight.detach(), "fc.bias": head.bias.detach()}
    save_file({name: tensor.contiguous() for name, tensor in tuned.items()}, out)
    labels = out.with_suffix(".txt")
    labels.write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
    files = ["--weights", str(out), "--labels", str(labels)]
    return [*files, "--arch", weights.architecture, "--resize", str(weights.preprocess_config.resize)]


def write_labels(path: Path, folder: Path, images: list[Path], classes: list[int]) -> None:
    """Write the classes of images below a folder as ``resnet-build`` and ``resnet-client evaluate`` read them."""
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["file", "class_index"])
        rows.writerows((image.relative_to(folder), number) for image, number in zip(images, classes, strict=True))


def main() -> None:
    """Train, measure, write, print the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="Folder with one subfolder per class")
    parser.add_argument("--weights", default="auto", help="Weights of the server, as WEIGHTS of make serve")
    parser.add_argument("--out", type=Path, default=Path("mine.safetensors"), help="Weights to write")
    options = parser.parse_args()
    try:
        names = sorted(path.name for path in options.folder.iterdir() if path.is_dir())
        if len(names) <= 1:
            sys.exit(f"{options.folder} needs two or more subfolders, one per class")
        paths, features, classes = features_of(options.folder, names)
        weights = load(options.weights, cache=default_cache(), file_options=FileOptions(), report=print)
        held_out = torch.arange(len(classes)) % HELD_OUT == 0
        head = train(features[~held_out], classes[~held_out], len(names))
        right = (head(features[held_out]).argmax(1) == classes[held_out]).float().mean()
        build = write(weights, head, names, options.out)
        labels = options.out.with_suffix(".csv")
        write_labels(labels, options.folder, paths[::HELD_OUT], classes[held_out].tolist())
    except (ResnetClientError, BuildError, OSError) as exc:
        sys.exit(str(exc))
    print(f"{len(names)} classes, {len(classes)} images, {right:.0%} of the {held_out.sum()} held-out images are right")
    build += ["--accuracy-images", str(options.folder), "--accuracy-labels", str(labels)]
    build += ["--repository", str(options.out.with_suffix(""))]
    print(f"resnet-build {shlex.join(build)} && resnet-serve --port 8010 --repository {shlex.quote(build[-1])}")


if __name__ == "__main__":
    main()
