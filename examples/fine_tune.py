"""Train a classifier for your own classes on features that the server computes, then serve the whole network.

``images/`` has one folder per class. A running server computes the features, so only the last layer is trained, which
takes seconds without a GPU. The program then replaces the last layer of the network and writes a state dict for
``resnet-build``:

    python fine_tune.py images/ --weights keras-v1 --out mine.safetensors
    resnet-build --weights mine.safetensors --arch v1 --resize 256 --labels mine.txt --repository mine
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from resnet_build.weights import FileOptions, default_cache, load
from resnet_client import Client
from safetensors.torch import save_file
from torch import nn

HELD_OUT = 5  # every fifth image is held out


def features_of(folder: Path) -> tuple[torch.Tensor, torch.Tensor, list[str]]:
    """Features (images, 2048), class numbers and class names of a folder of folders."""
    names = sorted(path.name for path in folder.iterdir() if path.is_dir())
    images = [(path, number) for number, name in enumerate(names) for path in sorted((folder / name).iterdir())]
    with Client() as client:
        outcomes = list(client.embed_many([path for path, _ in images], progress=True))
    good = [(outcome.result, number) for outcome, (_, number) in zip(outcomes, images, strict=True) if outcome.ok]
    vectors, classes = zip(*good, strict=True)
    return torch.from_numpy(np.stack(vectors)), torch.tensor(classes), names


def train(features: torch.Tensor, classes: torch.Tensor, count: int) -> nn.Linear:
    """Fit a linear layer, with all images in one batch."""
    torch.manual_seed(1)
    head = nn.Linear(features.shape[1], count)
    optimiser = torch.optim.AdamW(head.parameters(), lr=1e-2, weight_decay=1e-2)
    for _ in range(200):
        optimiser.zero_grad()
        nn.functional.cross_entropy(head(features), classes).backward()
        optimiser.step()
    return head


def main() -> None:
    """Train, evaluate, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="Folder with one subfolder per class")
    parser.add_argument("--weights", default="imagenet-v2", help="Weights of the server")
    parser.add_argument(
        "--out", type=Path, default=Path("mine.safetensors"), help="State dict to write; labels are written next to it"
    )
    options = parser.parse_args()
    features, classes, names = features_of(options.folder)
    held_out = torch.arange(len(classes)) % HELD_OUT == 0
    head = train(features[~held_out], classes[~held_out], len(names))
    right = (head(features[held_out]).argmax(1) == classes[held_out]).float().mean()
    print(
        f"{len(names)} classes, {int((~held_out).sum())} training images, accuracy {right:.0%} on "
        f"{int(held_out.sum())} held-out images"
    )
    found = load(options.weights, cache=default_cache(), file_options=FileOptions(), report=print)
    tuned = {**found.state_dict, "fc.weight": head.weight.detach(), "fc.bias": head.bias.detach()}
    save_file({name: tensor.contiguous() for name, tensor in tuned.items()}, options.out)
    options.out.with_suffix(".txt").write_text("".join(f"{name}\n" for name in names))
    print(f"wrote {options.out}: resnet-build --weights {options.out} --labels {options.out.with_suffix('.txt')} …")
    print(f"  with --arch {found.architecture} --resize {found.preprocess_config.resize}")


if __name__ == "__main__":
    main()
