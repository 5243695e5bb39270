"""Compute feature maps on the server and pass them to torchvision's feature pyramid, as detectors do.

    resnet-build --backbone
    python feature_pyramid.py cat.jpg

The server computes C2 to C5; the pyramid, which you train, runs in this program.
"""

from __future__ import annotations

import argparse
import sys
from collections import OrderedDict

import torch
from resnet_client import Client, ModelNotFoundError, ResnetClientError
from torchvision.ops import FeaturePyramidNetwork


def show(image: str) -> None:
    """Request the feature maps, compute the pyramid, print its shapes."""
    with Client() as client:
        maps = client.feature_maps(image)
    tensors = OrderedDict((name, torch.from_numpy(array).float()[None]) for name, array in maps.items())
    pyramid = FeaturePyramidNetwork([tensor.shape[1] for tensor in tensors.values()], out_channels=256).eval()
    with torch.inference_mode():
        levels = pyramid(tensors)
    for name, level in levels.items():
        print(f"{name.replace('C', 'P')}  {tuple(level.shape)}")


def main() -> None:
    """Print the pyramid of an image, or the error."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("image")
    try:
        show(parser.parse_args().image)
    except ModelNotFoundError as exc:
        sys.exit(f"{exc}; build it with resnet-build --backbone")
    except ResnetClientError as exc:
        sys.exit(str(exc))


if __name__ == "__main__":
    main()
