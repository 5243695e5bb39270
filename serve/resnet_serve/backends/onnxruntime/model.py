"""A Triton backend named `onnxruntime`, in Python: ONNX Runtime from PyPI where NVIDIA's C++ one is absent.

Reads the same keys of ``config.pbtxt``: ``intra_op_thread_count``, ``inter_op_thread_count``,
``execution_mode``, ``enable_mem_arena``, ``enable_mem_pattern``, ``optimization.graph.level`` and
``default_model_filename``.
"""

from __future__ import annotations

import onnxruntime as ort

from resnet_serve.backends.network_backend import Arrays, NetworkBackend

# Triton's levels; 0 is "not set".
_GRAPH_LEVELS = {
    -1: ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    0: ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
    1: ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    2: ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
}


class TritonPythonModel(NetworkBackend):
    """One ONNX Runtime session per instance."""

    default_filename = "model.onnx"

    def load(self) -> None:
        """Open the session, on the instance's GPU where ONNX Runtime has its CUDA provider."""
        providers: list[str | tuple[str, dict[str, int]]] = ["CPUExecutionProvider"]
        usable = "CUDAExecutionProvider" in ort.get_available_providers()
        gpu = self.config.gpu(usable=usable, package="onnxruntime")
        if gpu is not None:
            providers.insert(0, ("CUDAExecutionProvider", {"device_id": gpu}))
        self._session = ort.InferenceSession(self.config.artifact, self._session_options(), providers=providers)

    def _session_options(self) -> ort.SessionOptions:
        options = ort.SessionOptions()
        options.graph_optimization_level = _GRAPH_LEVELS[self.config.graph_level]
        options.intra_op_num_threads = self.config.number("intra_op_thread_count", 0)
        options.inter_op_num_threads = self.config.number("inter_op_thread_count", 0)
        if self.config.number("execution_mode", 0) == 1:
            options.execution_mode = ort.ExecutionMode.ORT_PARALLEL
        options.enable_cpu_mem_arena = self.config.flag("enable_mem_arena", default=True)
        options.enable_mem_pattern = self.config.flag("enable_mem_pattern", default=True)
        return options

    def run(self, inputs: Arrays, outputs: list[str]) -> Arrays:
        """Run one batch."""
        return dict(zip(outputs, self._session.run(outputs, inputs), strict=True))
