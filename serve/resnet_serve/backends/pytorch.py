"""The Triton backend `pytorch` in Python: TorchScript on PyTorch from PyPI, in place of NVIDIA's C++ backend.

It reads the same keys of ``config.pbtxt``: ``INTRA_OP_THREAD_COUNT``, ``INTER_OP_THREAD_COUNT``,
``DISABLE_OPTIMIZED_EXECUTION``, ``DISABLE_CUDNN`` and ``default_model_filename``. Both match tensors by the index in
their names, ``<name>__<index>``.
"""

from __future__ import annotations

import warnings

import torch
import triton_python_backend_utils as pb_utils

from resnet_serve.backends.network_backend import NetworkBackend
from resnet_serve.backends.shared_threads import Arrays, Run


class TritonPythonModel(NetworkBackend):
    """One TorchScript module per instance."""

    default_filename = "model.pt"

    def load(self) -> Run:
        """Load the module onto the instance's device."""
        if threads := self.config.threads("INTRA_OP_THREAD_COUNT"):
            torch.set_num_threads(threads)
        if threads := self.config.number("INTER_OP_THREAD_COUNT", 0):
            torch.set_num_interop_threads(threads)
        torch.backends.cudnn.enabled = not self.config.flag("DISABLE_CUDNN", default=False)
        gpu = self.config.gpu(usable=torch.cuda.is_available(), package="torch")
        self._device = torch.device("cpu" if gpu is None else f"cuda:{gpu}")
        self._optimized = not self.config.flag("DISABLE_OPTIMIZED_EXECUTION", default=False)
        # index → name, for the order of arguments and results
        self._inputs = sorted(self.config.input_names, key=_index)
        self._outputs = {_index(name): name for name in self.config.output_names}
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=FutureWarning, message=".*torch.jit.*")
            module = torch.jit.load(  # type: ignore[no-untyped-call]  # PyTorch has not annotated it
                self.config.artifact, map_location=self._device
            ).eval()
            if self._optimized:
                # On a GPU, a batch of one takes a quarter less time. On a CPU, freezing together with the next step
                # also keeps the profiling executor from recompiling during the first calls of each shape.
                module = torch.jit.freeze(module)
                if self._device.type == "cpu":
                    module = torch.jit.optimize_for_inference(module)
            self._module = module
        return self._batch

    def _batch(self, inputs: Arrays, outputs: list[str]) -> Arrays:
        arguments = [torch.from_numpy(inputs[name]).to(self._device) for name in self._inputs]
        with (
            torch.inference_mode(),
            torch.jit.optimized_execution(self._optimized),  # type: ignore[attr-defined]  # missing in PyTorch's list
        ):
            results = self._module(*arguments)
        results = (results,) if isinstance(results, torch.Tensor) else results
        by_name = {name: results[index] for index, name in self._outputs.items()}
        return {name: by_name[name].cpu().numpy() for name in outputs}


def _index(name: str) -> int:
    _, separator, index = name.rpartition("__")
    if not separator or not index.isdigit():
        raise pb_utils.TritonModelException(f"invalid tensor name {name!r}: TorchScript needs <name>__<index>")
    return int(index)
