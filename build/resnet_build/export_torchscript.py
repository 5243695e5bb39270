"""The TorchScript artifact; no other file of the build uses TorchScript.

PyTorch has deprecated TorchScript in favour of ``torch.export``. Triton's PyTorch backend still needs it for dynamic
batches.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import torch

from resnet_build.network import Network, ServedNetwork, runner

FILENAME = "model.pt"


def export(network: ServedNetwork, path: Path) -> None:
    """Script the network and save it; scripting keeps the batch dynamic and the device open."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=FutureWarning, message=".*torch.jit.*")
        torch.jit.save(torch.jit.script(network), str(path))


def open_artifact(path: Path) -> Network:
    """Open a saved artifact."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=FutureWarning, message=".*torch.jit.*")
        return runner(torch.jit.load(str(path), map_location="cpu"))  # type: ignore[no-untyped-call]  # PyTorch has not annotated it
