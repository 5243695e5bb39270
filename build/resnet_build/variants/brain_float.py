"""The BF16 network, for CPUs that compute in bfloat16: the float network itself, with another precision in its config.

Bfloat16 has the range of 32-bit floats with fewer digits, so nothing needs to be scaled, learned or checked for
overflow. OpenVINO rounds the weights when it loads them, and takes 32 bits on a processor without bfloat16.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from resnet_build.variants.calibration import Pixels

METHOD = "weights and activations in bfloat16 where the processor has it, sums in 32 bits"


def convert(source: Path, destination: Path, _: Pixels) -> None:
    """Copy the exported network: the precision is a matter of its configuration."""
    shutil.copyfile(source, destination)
