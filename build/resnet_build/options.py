"""What of the serving can be chosen at build time; the command line makes its flags from these fields."""

from __future__ import annotations

import dataclasses
import os

from resnet_build.errors import BuildError


def _option(default: int, text: str, *, least: int = 1) -> int:
    field: int = dataclasses.field(default=default, metadata={"help": text, "least": least})
    return field


@dataclasses.dataclass(frozen=True)
class ServingOptions:
    """Numbers that end up in the ``config.pbtxt`` files; each field's help tells its meaning and unit."""

    max_batch_size: int = _option(32, "largest batch that a model executes")
    max_queue_delay_us: int = _option(1000, "microseconds a request may wait for others to share its batch", least=0)
    queue_size: int = _option(256, "waiting requests per model before further ones are refused as overload")
    queue_timeout_ms: int = _option(10_000, "milliseconds in a queue before a request is refused")
    instances: int = _option(1, "executions of a network at once, per GPU or on the CPU")
    preprocess_instances: int = _option(1, "processes that decode photos")
    threads: int = _option(0, "CPU threads per network instance; 0 for all cores, shared among the instances", least=0)

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            if getattr(self, field.name) < field.metadata["least"]:
                raise BuildError(f"--{field.name.replace('_', '-')} must be at least {field.metadata['least']}")

    @property
    def threads_per_instance(self) -> int:
        """Threads to write into the configuration; 0 to leave the choice to the backend."""
        if self.threads or self.instances == 1:
            return self.threads
        # Several instances with all cores each would fight for them.
        return max(1, (os.cpu_count() or 1) // self.instances)
