"""What of the serving can be chosen at build time; the command line makes its flags from these fields."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from resnet_client.preprocessing import Limits

from resnet_build.errors import UsageError

# What is built only when asked for; `resnet_build.variants` makes them, docs/variants.md tells what they are.
VARIANTS = ("int8", "bf16", "fp32", "fp16")
# Those that OpenVINO executes, on the CPU; ONNX Runtime does the others.
OPENVINO_VARIANTS = ("int8", "bf16", "fp32")
# What the default door can end in: the float network, or what is fast on a CPU (FP16 is for GPUs).
AUTO, PLAIN = "auto", "onnx"
DOORS = (AUTO, PLAIN, *OPENVINO_VARIANTS)

# For GPU hosts; `resnet_build.gpu` tells what they change. The first of each is the default.
ACCELERATORS = ("none", "tensorrt")
PREPROCESSING = ("pillow", "dali")

# A process decodes as many in a fifth of a second, so nobody waits for decoding longer than that.
_WAITING = 64


def _option(default: int, text: str, *, least: int = 1, most: int) -> int:
    field: int = dataclasses.field(default=default, metadata={"help": text, "least": least, "most": most})
    return field


@dataclasses.dataclass(frozen=True)
class ServingOptions:
    """Numbers that end up in the ``config.pbtxt`` files; each field's help tells its meaning and unit."""

    max_batch_size: int = _option(32, "largest batch that a model executes", most=1024)
    preferred_batch_size: int = _option(
        0,
        "photos a network takes at once of those waiting; 0 for 4 in several OpenVINO instances, else all",
        least=0,
        most=1024,
    )
    max_queue_delay_us: int = _option(
        0, "microseconds a request may wait for others to share its batch", least=0, most=10_000_000
    )
    queue_size: int = _option(
        0,
        f"photos that may wait before further ones are refused; 0 for {_WAITING} per preprocess instance",
        least=0,
        most=1_000_000,
    )
    queue_timeout_ms: int = _option(10_000, "milliseconds: a photo that would wait longer is refused", most=3_600_000)
    instances: int = _option(
        0, "executions of a network at once, per GPU or on the CPU; 0 for two in OpenVINO, else one", least=0, most=64
    )
    preprocess_instances: int = _option(1, "processes that decode photos, each one request at a time", most=256)
    max_photo_bytes: int = _option(
        Limits.max_bytes, "bytes of an encoded photo; longer ones are refused", most=2_147_483_647
    )
    max_photo_pixels: int = _option(
        Limits.max_pixels, "pixels of a photo, and of all that one process decodes at once", most=178_956_970
    )
    max_photo_frames: int = _option(
        Limits.max_frames, "frames of an animation, pages of a TIFF; only the first is classified", most=1_000_000
    )
    warmup_batch: int = _option(
        8, "largest batch that a network executes before it is ready; the powers of two below it, too", most=1024
    )
    threads: int = _option(
        0, "CPU threads per network instance; 0 for all cores, divided by its instances", least=0, most=1024
    )

    @property
    def max_backlog(self) -> int:
        """How many photos may wait in the server, in all queues together."""
        return self.queue_size or _WAITING * self.preprocess_instances

    @property
    def photo_limits(self) -> Limits:
        """What ``preprocess`` and the client's local preprocessing refuse."""
        return Limits(self.max_photo_bytes, self.max_photo_pixels, self.max_photo_frames)

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
    """Leave out what another version of resnet-build has recorded, and these options, a dataclass, do not have."""
    known = {field.name for field in dataclasses.fields(options)}
    return {name: value for name, value in recorded.items() if name in known}
