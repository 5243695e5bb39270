"""Weights in, validated Triton model repository out.

One build, :func:`pipeline.build`, in the order of its steps: :mod:`weights` finds a state dict (in :mod:`checkpoints`,
or from :mod:`keras_v1`), :mod:`network` puts it into the network that is served, :mod:`export_onnx` and
:mod:`export_torchscript` write artifacts, :mod:`validate` compares them with the network, :mod:`variants` makes others
in fewer bits with :mod:`quantize`, :mod:`configs` renders Triton's ``config.pbtxt``, and :mod:`repository` publishes
all of it at once with its :mod:`manifest`. :mod:`__main__` is the command ``resnet-build``.

Exceptions::

    BuildError
    └── UsageError
    LateInterrupt (a KeyboardInterrupt)
"""

from __future__ import annotations

from collections.abc import Callable

Report = Callable[[str], None]
"""Receives one message per step of a build."""


class BuildError(Exception):
    """The build cannot go on; the message names the cause and the remedy."""


class UsageError(BuildError):
    """An option makes no sense, or names a file that does not exist; nothing was begun."""


class LateInterrupt(KeyboardInterrupt):
    """Ctrl-C after everything was written."""
