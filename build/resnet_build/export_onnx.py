"""The ONNX artifact."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Sequence
from pathlib import Path

import onnx
import onnxruntime
import torch

from resnet_build.network import ServedNetwork
from resnet_build.tensors import FEATURES, PIXELS, PROBABILITIES

FILENAME = "model.onnx"

# Triton 24.10 holds ONNX Runtime 1.19, which reads opsets up to 21 and IR versions up to 10.
OPSET = 18
MAX_IR_VERSION = 10


def export(network: ServedNetwork, path: Path, outputs: Sequence[str] = (PROBABILITIES, FEATURES)) -> None:
    """Export the network with a dynamic batch, check it, and save it as one file."""
    pixels = torch.zeros((2, 224, 224, 3), dtype=torch.uint8)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        # The exporter warns about its own internals, and reports progress on stdout.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network,
            (pixels,),
            path,
            dynamo=True,
            input_names=[PIXELS],
            output_names=list(outputs),
            dynamic_shapes={"pixels": {0: torch.export.Dim("batch", min=1, max=65536)}},
            opset_version=OPSET,
            external_data=False,
            verbose=False,
        )
    model = onnx.load(path)
    model.ir_version = min(model.ir_version, MAX_IR_VERSION)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


class Runner:
    """Runs the saved artifact with ONNX Runtime on the CPU, for the parity gate."""

    def __init__(self, path: Path) -> None:
        self._session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    def __call__(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return probabilities and features of uint8 pixels, shape (N, 224, 224, 3)."""
        probabilities, features = self._session.run([PROBABILITIES, FEATURES], {PIXELS: pixels.numpy()})
        return torch.from_numpy(probabilities), torch.from_numpy(features)
