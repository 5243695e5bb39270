"""Variants that are the float network itself, executed by OpenVINO in the precision that their configuration says.

BF16: bfloat16 has the range of 32-bit floats with fewer digits, so nothing needs to be scaled, learned or checked for
overflow. OpenVINO rounds the weights when it loads them, and takes 32 bits on a processor without bfloat16.

FP32: the same function as in ONNX Runtime.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from resnet_build.variants.calibration import Pixels

BF16_METHOD = "weights and activations in bfloat16 where the processor has it, sums in 32 bits"
FP32_METHOD = "32 bits throughout, by OpenVINO"


def convert(source: Path, destination: Path, _: Pixels) -> None:
    """Copy the exported network."""
    shutil.copyfile(source, destination)
