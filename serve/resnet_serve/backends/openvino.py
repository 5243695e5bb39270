"""The Triton backend `openvino` in Python: OpenVINO from PyPI, in place of NVIDIA's C++ backend.

It reads the same keys of ``config.pbtxt``: ``INFERENCE_NUM_THREADS``, ``NUM_STREAMS``, ``PERFORMANCE_HINT``,
``HINT_BF16``, ``CPU_EXTENSION_PATH`` and ``default_model_filename``. The C++ backend executes batches of
``max_batch_size`` only, and pads smaller ones with ``ENABLE_BATCH_PADDING``. This one executes every batch at its own
size and ignores that key. Both serve ``KIND_CPU`` only.
"""

from __future__ import annotations

import contextlib
import sys
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils
from resnet_client.preprocessing import available_cpus

from resnet_serve.backends.network_backend import Arrays, NetworkBackend

# Without telemetry, which would write below HOME and look up a host of Google.
sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # so that its import fails
import openvino as ov  # noqa: E402

_DEVICE = "CPU"
_THREADS = "INFERENCE_NUM_THREADS"
_STREAMS = "NUM_STREAMS"
_STREAM_NAMES = {"auto": ov.properties.streams.Num.AUTO, "numa": ov.properties.streams.Num.NUMA}


class TritonPythonModel(NetworkBackend):
    """Divides the images of a batch equally among streams; what remains, or a single image, uses all threads.

    Each stream computes its images on its own threads. Under load this is faster than all threads for one batch, where
    the others wait, layer after layer, for the thread whose core also decodes an image. All streams share one copy of
    the weights, and the request with all threads has another.
    """

    default_filename = "model.xml"

    def load(self) -> None:
        """Compile the model for this processor, for every batch size up to the largest."""
        if self.config.kind != _DEVICE:
            raise pb_utils.TritonModelException(f"OpenVINO serves KIND_CPU only, not KIND_{self.config.kind}")
        core = ov.Core()
        if extension := self.config.parameter("CPU_EXTENSION_PATH", ""):
            core.add_extension(extension)
        model, properties = core.read_model(self.config.artifact), self._properties(core)
        self._request = core.compile_model(model, _DEVICE, {**properties, _STREAMS: 1}).create_infer_request()
        self._streams: list[ov.InferRequest] = []
        if self.config.batches and properties[_STREAMS] != 1:
            compiled = core.compile_model(model, _DEVICE, properties)
            self._streams = [compiled.create_infer_request() for _ in range(compiled.get_property(_STREAMS))]

    def _properties(self, core: ov.Core) -> dict[str, Any]:
        threads = self.config.threads(_THREADS) or available_cpus()
        streams = self.config.parameter(_STREAMS, "1").lower()
        properties: dict[str, Any] = {
            "INFERENCE_PRECISION_HINT": self._precision(core),
            # Without pinning, because several instances or servers would pin their threads to the same cores.
            "ENABLE_CPU_PINNING": False,
            _THREADS: threads,
            _STREAMS: _STREAM_NAMES.get(streams) or min(self.config.number(_STREAMS, 1), threads),
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

    def run(self, inputs: Arrays, outputs: list[str]) -> Arrays:
        """Run one batch without copying its inputs; the outputs are valid until the next run."""
        share = len(next(iter(inputs.values()))) // len(self._streams) if self._streams else 0
        divided = share * len(self._streams)
        parts = [(request, slice(share * n, share * (n + 1))) for n, request in enumerate(self._streams)]
        results = _infer(parts, inputs, outputs) if divided else []
        if not divided or divided < len(next(iter(inputs.values()))):
            results += _infer([(self._request, slice(divided, None))], inputs, outputs)
        if len(results) == 1:
            return results[0]
        return {name: np.concatenate([result[name] for result in results]) for name in outputs}


def _infer(parts: list[tuple[ov.InferRequest, slice]], inputs: Arrays, outputs: list[str]) -> list[Arrays]:
    """Compute parts of a batch at the same time; the results are valid until the next call."""
    # OpenVINO reads the arrays in place and keeps no reference, so this list keeps them alive.
    held = []
    with contextlib.ExitStack() as running:
        for request, rows in parts:
            held.append({name: np.ascontiguousarray(array[rows]) for name, array in inputs.items()})
            for name, array in held[-1].items():
                request.set_tensor(name, ov.Tensor(array, shared_memory=True))
            request.start_async()
            running.callback(request.wait)  # also if another part fails
    return [{name: request.get_tensor(name).data for name in outputs} for request, _ in parts]
