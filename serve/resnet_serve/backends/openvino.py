"""The Triton backend `openvino` in Python: OpenVINO from PyPI, in place of NVIDIA's C++ backend.

It reads the same keys of ``config.pbtxt``: ``INFERENCE_NUM_THREADS``, ``NUM_STREAMS``, ``PERFORMANCE_HINT``,
``HINT_BF16``, ``CPU_EXTENSION_PATH`` and ``default_model_filename``. The C++ backend executes batches of
``max_batch_size`` only, and pads smaller ones with ``ENABLE_BATCH_PADDING``. This one executes every batch at its own
size and ignores that key. Both serve ``KIND_CPU`` only. If only one of several instances computes, it uses the threads
of all.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils
from resnet_client.preprocessing import available_cpus

from resnet_serve.backends.network_backend import Arrays, NetworkBackend
from resnet_serve.backends.sibling_lock import SiblingLock

# Without telemetry, which would write below HOME and look up a host of Google.
sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # so that its import fails
import openvino as ov  # noqa: E402

_DEVICE = "CPU"
_THREADS = "INFERENCE_NUM_THREADS"
_STREAMS = {"auto": ov.properties.streams.Num.AUTO, "numa": ov.properties.streams.Num.NUMA}


class TritonPythonModel(NetworkBackend):
    """Has two inference requests: one with the threads of this instance, one with the threads of all instances."""

    default_filename = "model.xml"

    def load(self) -> None:
        """Compile the model for this processor, for every batch size up to the largest."""
        if self.config.kind != _DEVICE:
            raise pb_utils.TritonModelException(f"OpenVINO serves KIND_CPU only, not KIND_{self.config.kind}")
        core = ov.Core()
        if extension := self.config.parameter("CPU_EXTENSION_PATH", ""):
            core.add_extension(extension)
        cores = available_cpus()
        threads = self.config.threads(_THREADS)
        threads_alone = min(self.config.number(_THREADS, 0) * self.config.instances or cores, cores)

        model = core.read_model(self.config.artifact)

        def request(threads: int) -> ov.InferRequest:
            return core.compile_model(model, _DEVICE, self._properties(core, threads)).create_infer_request()

        self._request = self._request_alone = request(threads)
        self._cores = None
        if self.config.instances > 1 and threads_alone > threads:
            self._request_alone = request(threads_alone)
            self._cores = SiblingLock(self.config.repository)

    def _properties(self, core: ov.Core, threads: int) -> dict[str, Any]:
        # Without pinning, because several instances or servers would pin their threads to the same cores.
        properties: dict[str, Any] = {
            "INFERENCE_PRECISION_HINT": self._precision(core),
            "ENABLE_CPU_PINNING": False,
        }
        if threads:
            properties[_THREADS] = threads
        if hint := self.config.parameter("PERFORMANCE_HINT", ""):
            properties["PERFORMANCE_HINT"] = hint.upper()
        if streams := self.config.parameter("NUM_STREAMS", "").lower():
            properties["NUM_STREAMS"] = _STREAMS.get(streams) or self.config.number("NUM_STREAMS", 1)
        return properties

    def _precision(self, core: ov.Core) -> ov.Type:
        """Return FP32 unless the config requests BF16; OpenVINO's own default depends on the processor."""
        if not self.config.is_yes("HINT_BF16"):
            return ov.Type.f32
        if "BF16" in core.get_property(_DEVICE, "OPTIMIZATION_CAPABILITIES"):
            return ov.Type.bf16
        pb_utils.Logger.log_warn(f"{self.config.artifact}: this processor does not support bfloat16; using FP32")
        return ov.Type.f32

    def run(self, inputs: Arrays, outputs: list[str]) -> Arrays:
        """Run one batch without copying its inputs; the outputs are valid until the next run."""
        if self._cores is None:
            return _infer(self._request, inputs, outputs)
        with self._cores.computing() as is_alone:
            return _infer(self._request_alone if is_alone else self._request, inputs, outputs)

    def finalize(self) -> None:
        """Close the shared folder; Triton calls this when it unloads the model."""
        if self._cores is not None:
            self._cores.close()


def _infer(request: ov.InferRequest, inputs: Arrays, outputs: list[str]) -> Arrays:
    # OpenVINO reads the arrays in place and keeps no reference, so this variable keeps them alive.
    held = {name: np.ascontiguousarray(array) for name, array in inputs.items()}
    for name, array in held.items():
        request.set_tensor(name, ov.Tensor(array, shared_memory=True))
    request.infer()
    return {name: request.get_tensor(name).data for name in outputs}
