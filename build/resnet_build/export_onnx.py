"""The ONNX artifact, and ONNX Runtime on the CPU."""

from __future__ import annotations

import contextlib
import hashlib
import io
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
import torch
from resnet_client.requests import FEATURES, PIXELS, PROBABILITIES

from resnet_build.network import Network, Outputs, Pixels, ServedNetwork

FILENAME = "model.onnx"

# Triton 24.10 contains ONNX Runtime 1.19, which reads opsets up to 21 and IR versions up to 10.
OPSET = 18
_MAX_IR_VERSION = 10
_OUTPUTS = (PROBABILITIES, FEATURES)


def export(network: ServedNetwork, path: Path, outputs: Sequence[str] = _OUTPUTS) -> None:
    """Export the network with a dynamic batch, and :func:`save` it as one file."""
    pixels = torch.zeros((2, network.size, network.size, 3), dtype=torch.uint8)
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
    save(onnx.load(path), path)


def save(model: Any, path: Path) -> None:
    """Check a finished ``onnx.ModelProto``, name its graph by a hash of its content, and write it.

    ONNX Runtime finds the TensorRT engine of a network by names, among them the graph's, and not by the weights: with
    the same name, new weights would get the engine of the old ones.
    """
    # The exporter's notes contain paths of the machine that builds.
    for described in (model.graph, *model.graph.node, *model.graph.value_info):
        del described.metadata_props[:]
    model.graph.name = ""
    model.graph.name = f"resnet50_{hashlib.sha256(model.graph.SerializeToString(deterministic=True)).hexdigest()[:16]}"
    model.ir_version = min(model.ir_version, _MAX_IR_VERSION)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


def open_artifact(path: Path, outputs: Sequence[str] = _OUTPUTS) -> Network:
    """Open a saved artifact."""
    options = onnxruntime.SessionOptions()
    # Without this, idle threads of one network spin on the cores that the next one needs.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def run(pixels: Pixels) -> Outputs:
        found: Outputs = session.run(list(outputs), {PIXELS: pixels})
        return found

    return run
