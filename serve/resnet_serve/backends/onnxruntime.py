"""The Triton backend `onnxruntime` in Python: ONNX Runtime from PyPI, in place of NVIDIA's C++ backend.

It reads the same keys of ``config.pbtxt``: ``intra_op_thread_count``, ``inter_op_thread_count``,
``execution_mode``, ``enable_mem_arena``, ``enable_mem_pattern``, ``optimization.graph.level``,
``default_model_filename``, and on a GPU ``cudnn_conv_algo_search`` and the parameters of the accelerator ``cuda``.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
import triton_python_backend_utils as pb_utils

from resnet_serve.backends.network_backend import NetworkBackend
from resnet_serve.backends.shared_threads import Arrays, Run

_CUDA = "CUDAExecutionProvider"
_THREADS = "intra_op_thread_count"

# Triton's numbers for `cudnn_conv_algo_search`.
_SEARCHES = {"0": "EXHAUSTIVE", "1": "HEURISTIC", "2": "DEFAULT"}

# Triton's levels; 0 is "not set".
_GRAPH_LEVELS = {
    -1: ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    0: ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
    1: ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    2: ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
}


class SessionPerSize:
    """Sessions of one network, each for batches of one power of two; smaller batches are padded.

    ONNX Runtime's CUDA provider plans a network's convolutions for one batch size and plans again when the size
    changes. On an H200 that took 0.15 s with heuristic search and 0.5 to 1.1 s with exhaustive search, for a batch that
    computes in 2 ms. A dynamic batcher changes the size with almost every batch.

    Each session has its own copy of the weights. A session is opened at the first batch of its size, so the model's
    warm-up determines which sessions exist before the first request.

    Args:
        open_session: opens a session; the first is opened at once, so that an invalid network fails to load.
    """

    def __init__(self, open_session: Callable[[], ort.InferenceSession]) -> None:
        self._open = open_session
        self._sessions = {1: open_session()}

    def run(self, output_names: list[str], input_feed: Arrays) -> list[npt.NDArray[Any]]:
        """Run one batch of arrays, shape (N, …); return the named outputs, shape (N, …)."""
        rows = len(next(iter(input_feed.values())))
        size = 1 << (rows - 1).bit_length()
        if size not in self._sessions:
            self._sessions[size] = self._open()
        filled = {name: _filled(array, size) for name, array in input_feed.items()}
        return [array[:rows] for array in self._sessions[size].run(output_names, filled)]


def _filled(array: npt.NDArray[Any], size: int) -> npt.NDArray[Any]:
    missing = size - len(array)
    return np.concatenate([array, np.zeros_like(array, shape=(missing, *array.shape[1:]))]) if missing else array


class TritonPythonModel(NetworkBackend):
    """One or two ONNX Runtime sessions per instance."""

    default_filename = "model.onnx"

    def load(self) -> Run:
        """Open the session, on the instance's GPU if ONNX Runtime has its CUDA provider."""
        gpu = self.config.gpu(usable=_CUDA in ort.get_available_providers(), package="onnxruntime")
        if gpu is not None:
            return functools.partial(_run, self._on_gpu(gpu))
        return self.with_threads(lambda threads: functools.partial(_run, self._on_cpu(threads)), _THREADS)

    def _on_cpu(self, threads: int) -> ort.InferenceSession:
        options = self._session_options(threads)
        # Idle threads of one session would otherwise spin on the cores that the next one needs.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        return ort.InferenceSession(self.config.artifact, options, providers=["CPUExecutionProvider"])

    def _on_gpu(self, gpu: int) -> ort.InferenceSession | SessionPerSize:
        # CUDA and cuDNN may be in packages from PyPI, where the loader does not search.
        ort.preload_dlls()
        search = self.config.parsed("cudnn_conv_algo_search", "0", _SEARCHES.__getitem__, "0, 1 or 2")
        options = {
            "prefer_nhwc": "1",  # a fifth more images/s at batch 32 on an H200, in 32 bits and in 16
            "cudnn_conv_algo_search": search,
            **self.config.accelerator("cuda"),
            "device_id": str(gpu),
        }

        def opened() -> ort.InferenceSession:
            session = ort.InferenceSession(
                self.config.artifact,
                self._session_options(self.config.threads(_THREADS)),
                providers=[(_CUDA, options), "CPUExecutionProvider"],
            )
            if _CUDA not in session.get_providers():
                # ONNX Runtime only warns and uses the CPU.
                raise pb_utils.TritonModelException(
                    "ONNX Runtime cannot use the GPU, because it does not find its version of CUDA or cuDNN: "
                    'pip install "onnxruntime-gpu[cuda,cudnn]"'
                )
            return session

        return SessionPerSize(opened) if self.config.batches else opened()

    def _session_options(self, threads: int) -> ort.SessionOptions:
        options = ort.SessionOptions()
        options.graph_optimization_level = _GRAPH_LEVELS[self.config.graph_level]
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = self.config.number("inter_op_thread_count", 0)
        if self.config.number("execution_mode", 0) == 1:
            options.execution_mode = ort.ExecutionMode.ORT_PARALLEL
        options.enable_cpu_mem_arena = self.config.flag("enable_mem_arena", default=True)
        options.enable_mem_pattern = self.config.flag("enable_mem_pattern", default=True)
        return options


def _run(session: ort.InferenceSession | SessionPerSize, inputs: Arrays, outputs: list[str]) -> Arrays:
    return dict(zip(outputs, session.run(outputs, inputs), strict=True))
