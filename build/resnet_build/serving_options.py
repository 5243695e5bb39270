"""Options of the build that end up in the model configs; the command line makes its flags from these fields."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from resnet_client.preprocessing import Limits, threads_per_instance

from resnet_build import UsageError

# Built on request only. `resnet_build.variants` makes them; docs/variants.md describes them.
VARIANTS = ("int8", "bf16", "fp32", "fp16")
# OpenVINO executes these on the CPU; ONNX Runtime executes the others.
OPENVINO_VARIANTS = ("int8", "bf16", "fp32")
# Networks that `resnet50` can use: the FP32 ONNX network, or one that is fast on a CPU (FP16 is for GPUs).
AUTO, PLAIN = "auto", "onnx"
DEFAULT_MODELS = (AUTO, PLAIN, *OPENVINO_VARIANTS)

# For GPU hosts; `resnet_build.gpu` adds them to the configs. The first of each is the default.
GPU_ENGINES = ("torchscript", "tensorrt")
PREPROCESSING = ("pillow", "dali")

# A process decodes 64 images in a fifth of a second, so no request waits longer than that for decoding.
_WAITING_PER_INSTANCE = 64
# Two instances, because one would wait for decoding after each batch; one with TorchScript, whose instances cannot use
# each other's threads. Two instances take small batches, because with larger ones, one would take all images.
_CPU_INSTANCES = {"openvino": 2, "onnxruntime": 2, "pytorch": 1}
_SMALL_BATCH = 4


def _option(default: int, text: str, *, least: int = 1, most: int) -> int:
    field: int = dataclasses.field(default=default, metadata={"help": text, "least": least, "most": most})
    return field


@dataclasses.dataclass(frozen=True)
class ServingOptions:
    """Numbers that end up in the ``config.pbtxt`` files; the help of each field gives its meaning."""

    max_batch_size: int = _option(32, "Largest batch that a model executes", most=1024)
    preferred_batch_size: int = _option(
        0,
        "Waiting images that a network combines into one batch; "
        f"0: {_SMALL_BATCH} with ONNX Runtime or OpenVINO on a CPU, else all",
        least=0,
        most=1024,
    )
    max_queue_delay_us: int = _option(
        0, "Maximum time that a request waits for others to share its batch", least=0, most=10_000_000
    )
    queue_size: int = _option(
        0,
        f"Images that may wait before the server refuses more; 0: {_WAITING_PER_INSTANCE} per preprocess instance",
        least=0,
        most=1_000_000,
    )
    max_wait_ms: int = _option(
        10_000,
        "Refuse new requests while recent requests took longer than this; requests that already wait are answered",
        most=3_600_000,
    )
    instances: int = _option(
        0,
        "Instances of each network; 0: two, of TorchScript one on the CPU",
        least=0,
        most=64,
    )
    preprocess_instances: int = _option(1, "Processes that decode images; each handles one request at a time", most=256)
    max_image_bytes: int = _option(Limits.max_bytes, "Largest encoded image that is accepted", most=2_147_483_647)
    max_image_pixels: int = _option(
        Limits.max_pixels,
        "Maximum pixels of one image; the images that one process decodes at the same time share this limit",
        most=178_956_970,
    )
    max_image_frames: int = _option(
        Limits.max_frames,
        "Maximum number of frames or pages; only the first is classified",
        most=1_000_000,
    )
    warmup_batch: int = _option(
        2,
        "Warm up each network with this batch size and every smaller power of two before it is ready",
        most=1024,
    )
    threads: int = _option(
        0, "CPU threads of each network instance; 0: the instances share the cores equally", least=0, most=1024
    )
    server_cpus: int = _option(
        0,
        "Number of CPUs of the server, which its networks divide; 0: resnet-serve divides its own CPUs, but NVIDIA's "
        "container cannot, so give the number when you build for it",
        least=0,
        most=1024,
    )

    @property
    def max_queue_size(self) -> int:
        """Number of images that may wait in the server, in all queues together."""
        return self.queue_size or _WAITING_PER_INSTANCE * self.preprocess_instances

    @property
    def image_limits(self) -> Limits:
        """Limits that ``preprocess`` and the client's local preprocessing enforce."""
        return Limits(self.max_image_bytes, self.max_image_pixels, self.max_image_frames)

    @property
    def warmup_batches(self) -> list[int]:
        """The batch sizes to execute before a network is ready: the powers of two, and the largest."""
        largest = min(self.warmup_batch, self.max_batch_size)
        return sorted({*(1 << exponent for exponent in range(largest.bit_length())), largest})

    def cpu_instances_of(self, backend: str) -> int:
        """Return the number of instances on the CPU of a network of a backend."""
        return self.instances or _CPU_INSTANCES[backend]

    def instance_threads_of(self, backend: str) -> int:
        """Return the number of CPU threads of each instance of such a network; 0: the server decides."""
        if self.threads or not self.server_cpus:
            return self.threads
        return threads_per_instance(self.server_cpus, self.cpu_instances_of(backend))

    def preferred_batch_of(self, backend: str) -> int:
        """Return how many images a network of a backend takes at once on a CPU while more wait."""
        most = _SMALL_BATCH if _CPU_INSTANCES[backend] > 1 else self.max_batch_size
        return self.preferred_batch_size or min(most, self.max_batch_size)

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            least, most = field.metadata["least"], field.metadata["most"]
            if not least <= getattr(self, field.name) <= most:
                raise UsageError(f"--{field.name.replace('_', '-')} must be between {least} and {most}")
        if self.preferred_batch_size > self.max_batch_size:
            raise UsageError(
                f"--preferred-batch-size {self.preferred_batch_size} is above --max-batch-size {self.max_batch_size}"
            )


def known_fields(recorded: Mapping[str, Any], options: Any) -> dict[str, Any]:
    """Return the recorded values that are fields of a dataclass; another version may have recorded others."""
    known = {field.name for field in dataclasses.fields(options)}
    return {name: value for name, value in recorded.items() if name in known}
