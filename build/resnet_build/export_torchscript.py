"""The TorchScript artifact, and all that this project knows of TorchScript.

PyTorch has deprecated TorchScript in favour of ``torch.export``; Triton's PyTorch backend still needs it
for dynamic batches. Everything about it is in this file, so that another artifact can take its place.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import torch

from resnet_build.network import ServedNetwork

FILENAME = "model.pt"


def export(network: ServedNetwork, path: Path) -> None:
    """Script the network and save it; scripting keeps the batch dynamic and bakes in no device."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=FutureWarning, message=".*torch.jit.*")
        torch.jit.save(torch.jit.script(network), str(path))


class Runner:
    """Runs the saved artifact, for the parity gate."""

    def __init__(self, path: Path) -> None:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=FutureWarning, message=".*torch.jit.*")
            self._module = torch.jit.load(str(path), map_location="cpu")  # type: ignore[no-untyped-call]  # PyTorch has not annotated it

    def __call__(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return probabilities and features of uint8 pixels, shape (N, 224, 224, 3)."""
        with torch.inference_mode():
            probabilities, features = self._module(pixels)
        return probabilities, features
