"""Measures top-1 of the built networks on labelled images.

The tensors of a checkpoint do not show everything: networks with dilation, anti-aliasing, another pooling or other
strides have the same names and shapes, and compute something else.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from resnet_client.errors import ConfigurationError
from resnet_client.evaluate import Sample, read_samples
from resnet_client.preprocessing import PreprocessConfig

from resnet_build import BuildError, UsageError
from resnet_build.bound import Flags
from resnet_build.images import prepared
from resnet_build.network import Network

_BATCH = 8


@dataclasses.dataclass(frozen=True)
class Request:
    """The images to measure on.

    Attributes:
        images: folder with the images.
        labels: CSV file with the columns ``file`` and ``class_index``; None if each class has a subfolder.
        least: top-1 that the network must reach, 0 to 1.
    """

    images: Path
    labels: Path | None = None
    least: float = 0.5

    def samples(self, labels: Sequence[str]) -> list[Sample]:
        """Find the images and their classes.

        Args:
            labels: those of the network, in the order of its outputs.

        Raises:
            UsageError: something is missing or ambiguous, or the network has one label, so that top-1 is always 1.
        """
        if len(labels) == 1:
            raise UsageError(
                "--accuracy-images: this network has one output; give two lines in --labels, the negative class first"
            )
        names = defaultdict(list)
        for index, label in enumerate(labels):
            names[label].append(index)
        try:
            return read_samples(self.images, self.labels, names, option="--accuracy-labels")
        except ConfigurationError as exc:
            raise UsageError(f"--accuracy-images: {exc}") from exc


def measure(network: Network, samples: Sequence[Sample], preprocess_config: PreprocessConfig) -> Flags:
    """Return for each image whether the network's top-1 class is correct, shape (N,).

    Raises:
        BuildError: an image cannot be read.
    """
    found: list[bool] = []
    for start in range(0, len(samples), _BATCH):
        batch = samples[start : start + _BATCH]
        pixels = np.stack([prepared(sample.path, preprocess_config, "labelled") for sample in batch])
        top1 = network(pixels)[0].argmax(axis=1)
        found += (top1 == [sample.class_index for sample in batch]).tolist()
    return np.array(found)


def check(right: Flags, least: float) -> float:
    """Return top-1 of the network that will be served, 0 to 1.

    Args:
        right: for each image whether its top-1 class is correct.
        least: top-1 that is required.

    Raises:
        BuildError: it is below ``least``.
    """
    top1 = float(right.mean())
    if top1 < least:
        raise BuildError(
            f"top-1 on {len(right)} images is {top1:.1%}, below --min-accuracy {least:g}; nothing was written. If it "
            "was better in training, check --arch, --image-size, --resize, --interpolation, --mean, --std and "
            "the order of --labels; or the "
            "network has dilation, anti-aliasing or another pooling, which a checkpoint does not show"
        )
    return top1
