"""The Triton backend `openvino` in Python: OpenVINO from PyPI, in place of NVIDIA's C++ backend.

It reads the same keys of ``config.pbtxt``: ``INFERENCE_NUM_THREADS``, ``NUM_STREAMS``, ``PERFORMANCE_HINT``,
``HINT_BF16``, ``CPU_EXTENSION_PATH`` and ``default_model_filename``. The C++ backend executes batches of
``max_batch_size`` only, and pads smaller ones with ``ENABLE_BATCH_PADDING``. This one executes every batch at its own
size and ignores that key. Both serve ``KIND_CPU`` only.
"""

from __future__ import annotations

import functools
import os
import sys
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils
from resnet_client.preprocessing import available_cpus

from resnet_serve.backends.network_backend import NetworkBackend
from resnet_serve.backends.shared_threads import Arrays, Run

# Without telemetry, which would write below HOME and look up a host of Google.
sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # so that its import fails
import openvino as ov  # noqa: E402

_DEVICE = "CPU"
_THREADS = "INFERENCE_NUM_THREADS"
_STREAMS = "NUM_STREAMS"
_STREAM_NAMES = {"auto": ov.properties.streams.Num.AUTO, "numa": ov.properties.streams.Num.NUMA}


class TritonPythonModel(NetworkBackend):
    """One or two compiled models per instance."""

    default_filename = "model.xml"

    def load(self) -> Run:
        """Compile the model for this processor, for every batch size up to the largest."""
        if self.config.kind != _DEVICE:
            raise pb_utils.TritonModelException(f"OpenVINO serves KIND_CPU only, not KIND_{self.config.kind}")
        core = ov.Core()
        if extension := self.config.parameter("CPU_EXTENSION_PATH", ""):
            core.add_extension(extension)
        model, properties = core.read_model(self.config.artifact), self._properties(core)

        def compiled(threads: int) -> Run:
            threads = threads or available_cpus()
            # A part of the CPUs would be the same part for each instance and server. Threads on all CPUs must not wait
            # for each other on one of them.
            settings = {**properties, _THREADS: threads, "ENABLE_CPU_PINNING": threads == os.cpu_count()}
            return functools.partial(_run, core.compile_model(model, _DEVICE, settings).create_infer_request())

        return self.with_threads(compiled, _THREADS)

    def _properties(self, core: ov.Core) -> dict[str, Any]:
        streams = self.config.parameter(_STREAMS, "1").lower()
        properties: dict[str, Any] = {
            "INFERENCE_PRECISION_HINT": self._precision(core),
            _STREAMS: _STREAM_NAMES.get(streams) or self.config.number(_STREAMS, 1),
        }
        if hint := self.config.parameter("PERFORMANCE_HINT", ""):
            properties["PERFORMANCE_HINT"] = hint.upper()
        return properties

    def _precision(self, core: ov.Core) -> ov.Type:
        """Return FP32 unless the config requests BF16; OpenVINO's own default depends on the processor."""
        if not self.config.flag("HINT_BF16", default=False):
            return ov.Type.f32
        if "BF16" in core.get_property(_DEVICE, "OPTIMIZATION_CAPABILITIES"):
            return ov.Type.bf16
        pb_utils.Logger.log_warn(f"{self.config.artifact}: this processor does not support bfloat16; using FP32")
        return ov.Type.f32


def _run(request: ov.InferRequest, inputs: Arrays, outputs: list[str]) -> Arrays:
    """Run one batch without copying its inputs."""
    # OpenVINO reads the arrays in place and keeps no reference, so this variable keeps them alive.
    held = {name: np.ascontiguousarray(array) for name, array in inputs.items()}
    for name, array in held.items():
        request.set_tensor(name, ov.Tensor(array, shared_memory=True))
    request.infer()
    return {name: request.get_tensor(name).data for name in outputs}
