"""Base of the Python backends: combines Triton's requests to one batch of arrays, and splits the results.

A backend only loads its artifact and runs a batch. Triton does queueing, batching and scheduling.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import triton_python_backend_utils as pb_utils
from resnet_client.preprocessing import available_cpus, threads_per_instance

from resnet_serve.backends.shared_threads import Arrays, Run, SharedThreads

T = TypeVar("T")


class ModelConfig:
    """The parts of a model's ``config.pbtxt`` that a network backend reads.

    Attributes:
        artifact: path of the model file.
        input_names: in the order of the config.
        output_names: in the order of the config.
        batches: whether tensors have a batch dimension.
    """

    def __init__(self, args: dict[str, str], *, default_filename: str) -> None:
        self._config = json.loads(args["model_config"])
        filename = self._config.get("default_model_filename") or default_filename
        self.artifact = Path(args["model_repository"], args["model_version"], filename)
        self.input_names = [entry["name"] for entry in self._config["input"]]
        self.output_names = [entry["name"] for entry in self._config["output"]]
        self.batches = self._config["max_batch_size"] > 0
        self._args = args
        if not self.artifact.exists():
            raise pb_utils.TritonModelException(f"the artifact {self.artifact} is missing: run resnet-build")

    @property
    def _file(self) -> Path:
        """The file that Triton read; in the config that Triton passes to a backend, KIND_AUTO is replaced."""
        model, name = Path(self._args["model_repository"]), os.environ.get("RESNET_MODEL_CONFIG_NAME")
        named = model / "configs" / f"{name}.pbtxt"
        return named if named.exists() else model / "config.pbtxt"

    @property
    def kind(self) -> str:
        """Device of this instance: ``CPU`` or ``GPU``."""
        return self._args["model_instance_kind"]

    def gpu(self, *, usable: bool, package: str) -> int | None:
        """Return the GPU of this instance, or None for the CPU.

        Triton changes KIND_AUTO to KIND_GPU if the machine has a GPU. If the installed package cannot use it, an
        instance of KIND_AUTO runs on the CPU, and KIND_GPU in the config file is an error.
        """
        if self.kind != "GPU":
            return None
        if usable:
            return int(self._args["model_instance_device_id"])
        problem = f"the installed {package} cannot use the GPU"
        if "KIND_GPU" in self._file.read_text(encoding="utf-8"):
            raise pb_utils.TritonModelException(
                f"{problem}, but the model config requires KIND_GPU: install a version for GPUs, or set KIND_AUTO"
            )
        pb_utils.Logger.log_warn(f"{self.artifact}: {problem}; it runs on the CPU")
        return None

    def parameter(self, name: str, default: str) -> str:
        """Return a value of ``parameters`` in the config."""
        entry = self._config.get("parameters", {}).get(name)
        return default if entry is None else str(entry["string_value"])

    def flag(self, name: str, *, default: bool) -> bool:
        """Return a boolean of ``parameters``, written as Triton's C++ backends read it; OpenVINO's reads YES and NO."""
        values = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
        return self.parsed(name, str(default), lambda text: values[text.lower()], "true, false, yes or no")

    def number(self, name: str, default: int) -> int:
        """Return a whole number of ``parameters``."""
        return self.parsed(name, str(default), int, "a whole number")

    def parsed(self, name: str, default: str, parse: Callable[[str], T], expected: str) -> T:
        """Return a parsed value of ``parameters``; one that cannot be parsed stops the load."""
        text = self.parameter(name, default)
        try:
            return parse(text)
        except (ValueError, KeyError) as exc:
            raise pb_utils.TritonModelException(f"invalid parameter {name} {text!r}: expected {expected}") from exc

    def threads(self, name: str) -> int:
        """Return the CPU threads of this instance; 0 means all cores. The instances divide the available CPUs.

        With 0, ONNX Runtime would also use CPUs that this process may not use (as with ``taskset``).
        """
        threads = self.number(name, 0)
        share = threads_per_instance(available_cpus(), self.instances)
        if threads or self.kind != "CPU" or share == os.cpu_count():
            return threads
        return share

    def divides_cpus(self, name: str) -> bool:
        """Whether this instance has only a share of the CPUs."""
        cpus = available_cpus()
        return self.kind == "CPU" and not self.number(name, 0) and threads_per_instance(cpus, self.instances) < cpus

    @property
    def is_first(self) -> bool:
        """Whether this instance is of the first group, whose batches Triton gives to others only while it computes."""
        group: str = self._config["instance_group"][0]["name"]
        return self._args["model_instance_name"].startswith(f"{group}_")

    def accelerator(self, name: str) -> dict[str, str]:
        """Return the parameters of ``optimization.execution_accelerators.gpu_execution_accelerator`` of that name."""
        accelerators = self._config.get("optimization", {}).get("execution_accelerators", {})
        for entry in accelerators.get("gpu_execution_accelerator", []):
            if entry["name"] == name:
                return {key: str(value) for key, value in entry.get("parameters", {}).items()}
        return {}

    @property
    def instances(self) -> int:
        """Number of instances of this model on each device."""
        return sum(group["count"] for group in self._config["instance_group"])

    @property
    def graph_level(self) -> int:
        """``optimization.graph.level``; 0 if it is not set."""
        return int(self._config.get("optimization", {}).get("graph", {}).get("level", 0))


class NetworkBackend:
    """Base of the backends; ``TritonPythonModel`` in each ``model.py`` derives from it.

    Attributes:
        config: the parts of the model config that backends read.
        run: runs one batch.
    """

    default_filename: str
    config: ModelConfig
    run: Run

    @staticmethod
    def auto_complete_config(auto_complete_model_config: Any) -> Any:
        """Return the config unchanged, because the build writes it completely."""
        return auto_complete_model_config

    def initialize(self, args: dict[str, str]) -> None:
        """Load the artifact; Triton calls this once per instance, before any request."""
        self.config = ModelConfig(args, default_filename=self.default_filename)
        try:
            self.run = self.load()
        except pb_utils.TritonModelException:
            raise
        except Exception as exc:
            reason = " ".join(str(exc).split())  # one line, because Triton's log may cut off others
            raise pb_utils.TritonModelException(
                f"the artifact {self.config.artifact} cannot be loaded: {reason}"
            ) from exc
        _return_memory()

    def load(self) -> Run:
        """Load ``self.config.artifact``, and return the function that runs a batch."""
        raise NotImplementedError

    def with_threads(self, load: Callable[[int], Run], parameter: str) -> Run:
        """Load the artifact for the threads of this instance; for the first one also with those of the others."""
        run = load(self.config.threads(parameter))
        if not self.config.divides_cpus(parameter):
            return run
        all_threads = load(available_cpus()) if self.config.is_first else run
        return SharedThreads(self.config.artifact, run, all_threads).run

    def execute(self, requests: list[Any]) -> list[Any]:
        """Run all requests as one batch; return to each its rows of the outputs that it requests."""
        inputs = [_inputs(request, self.config.input_names) for request in requests]
        wanted = [set(request.requested_output_names()) for request in requests]
        names = [name for name in self.config.output_names if any(name in outputs for outputs in wanted)]
        try:
            results = self.run(inputs[0] if len(inputs) == 1 else _concatenated(inputs), names)
        except Exception as exc:  # noqa: BLE001  # any error of the runtime fails the requests, not the server
            return [_failed(exc) for _ in requests]
        responses, start = [], 0
        for arrays, outputs in zip(inputs, wanted, strict=True):
            end = start + len(next(iter(arrays.values())))
            part = slice(start, end) if self.config.batches else slice(None)
            tensors = [pb_utils.Tensor(name, results[name][part]) for name in names if name in outputs]
            responses.append(pb_utils.InferenceResponse(output_tensors=tensors))
            start = end
        return responses


def _return_memory() -> None:
    """Return memory to the kernel that only loading needed: for ONNX Runtime, as much as the network itself."""
    with contextlib.suppress(AttributeError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)


def _inputs(request: Any, names: list[str]) -> Arrays:
    return {name: pb_utils.get_input_tensor_by_name(request, name).as_numpy() for name in names}


def _concatenated(inputs: list[Arrays]) -> Arrays:
    return {name: np.concatenate([arrays[name] for arrays in inputs]) for name in inputs[0]}


def _failed(exc: Exception) -> Any:
    error = pb_utils.TritonError(f"the network failed: {exc}", pb_utils.TritonError.INTERNAL)
    return pb_utils.InferenceResponse(output_tensors=[], error=error)
