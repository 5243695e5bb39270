"""What can be chosen at build time for serving; the command line makes its flags from these fields."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from resnet_client.preprocessing import Limits

from resnet_build import UsageError

# What is built only when asked for; `resnet_build.variants` makes them, docs/variants.md describes them.
VARIANTS = ("int8", "bf16", "fp32", "fp16")
# Those that OpenVINO executes, on the CPU; ONNX Runtime executes the others.
OPENVINO_VARIANTS = ("int8", "bf16", "fp32")
# Which network `resnet50` can end in: the FP32 ONNX network, or one that is fast on a CPU (FP16 is for GPUs).
AUTO, PLAIN = "auto", "onnx"
DEFAULT_MODELS = (AUTO, PLAIN, *OPENVINO_VARIANTS)

# For GPU hosts; `resnet_build.gpu` adds them to the configs. The first of each is the default.
ACCELERATORS = ("none", "tensorrt")
PREPROCESSING = ("pillow", "dali")

# A process decodes as many in a fifth of a second, so no request waits for decoding longer than that.
_WAITING_PER_INSTANCE = 64
# Two share the cores, so that neither waits for an image that is decoded on one of them; alone, each has all.
_INSTANCES = {"openvino": 2}
# Then each leaves images to the other: one that took all would keep them on half of the cores while others overtake.
_SHARED_BATCH = 4


def _option(default: int, text: str, *, least: int = 1, most: int) -> int:
    field: int = dataclasses.field(default=default, metadata={"help": text, "least": least, "most": most})
    return field


@dataclasses.dataclass(frozen=True)
class ServingOptions:
    """Numbers that end up in the ``config.pbtxt`` files; each field's help has its meaning and unit."""

    max_batch_size: int = _option(32, "largest batch that a model executes", most=1024)
    preferred_batch_size: int = _option(
        0,
        "images a network takes at once of those waiting; 0 for 4 in several OpenVINO instances, else all",
        least=0,
        most=1024,
    )
    max_queue_delay_us: int = _option(
        0, "microseconds a request may wait for others to share its batch", least=0, most=10_000_000
    )
    queue_size: int = _option(
        0,
        f"images that may wait before further ones are refused; 0 for {_WAITING_PER_INSTANCE} per preprocess instance",
        least=0,
        most=1_000_000,
    )
    queue_timeout_ms: int = _option(10_000, "milliseconds: an image that would wait longer is refused", most=3_600_000)
    instances: int = _option(
        0, "executions of a network at once, per GPU or on the CPU; 0 for two in OpenVINO, else one", least=0, most=64
    )
    preprocess_instances: int = _option(1, "processes that decode images, each one request at a time", most=256)
    max_image_bytes: int = _option(
        Limits.max_bytes, "bytes of an encoded image; longer ones are refused", most=2_147_483_647
    )
    max_image_pixels: int = _option(
        Limits.max_pixels, "pixels of an image, and of all that one process decodes at once", most=178_956_970
    )
    max_image_frames: int = _option(
        Limits.max_frames, "frames of an animation, pages of a TIFF; only the first is classified", most=1_000_000
    )
    warmup_batch: int = _option(
        8, "largest batch that a network executes before it is ready; the powers of two below it, too", most=1024
    )
    threads: int = _option(
        0, "CPU threads per network instance; 0 for all cores, divided by its instances", least=0, most=1024
    )

    @property
    def max_queue_size(self) -> int:
        """How many images may wait in the server, in all queues together."""
        return self.queue_size or _WAITING_PER_INSTANCE * self.preprocess_instances

    @property
    def image_limits(self) -> Limits:
        """What ``preprocess`` and the client's local preprocessing refuse."""
        return Limits(self.max_image_bytes, self.max_image_pixels, self.max_image_frames)

    @property
    def warmup_batches(self) -> list[int]:
        """The batch sizes to execute before a network is ready: the powers of two, and the largest."""
        largest = min(self.warmup_batch, self.max_batch_size)
        return sorted({*(1 << exponent for exponent in range(largest.bit_length())), largest})

    def instances_of(self, backend: str) -> int:
        """Return how many instances a network of a backend has."""
        return self.instances or _INSTANCES.get(backend, 1)

    def preferred_batch_of(self, backend: str) -> int:
        """Return how many images a network of a backend takes at once while more wait."""
        shares_the_cores = backend in _INSTANCES and self.instances_of(backend) > 1
        return self.preferred_batch_size or min(
            _SHARED_BATCH if shares_the_cores else self.max_batch_size, self.max_batch_size
        )

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            least, most = field.metadata["least"], field.metadata["most"]
            if not least <= getattr(self, field.name) <= most:
                raise UsageError(f"--{field.name.replace('_', '-')} must lie between {least} and {most}")
        if self.preferred_batch_size > self.max_batch_size:
            raise UsageError(
                f"--preferred-batch-size {self.preferred_batch_size} is above --max-batch-size {self.max_batch_size}"
            )


def known_fields(recorded: Mapping[str, Any], options: Any) -> dict[str, Any]:
    """Leave out what another version of resnet-build has recorded and these options, a dataclass, do not have."""
    known = {field.name for field in dataclasses.fields(options)}
    return {name: value for name, value in recorded.items() if name in known}
