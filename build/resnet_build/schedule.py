"""What of a model's configuration depends on the machine: batches, instances, threads, queue delay."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from resnet_client.model_configs import THREADS
from tritonclient.grpc import model_config_pb2 as pb

from resnet_build.options import ServingOptions
from resnet_build.tensors import PIXELS

# Two share the cores, so that neither waits for a photo that is decoded on one of them; alone, each has all.
_INSTANCES = {"openvino": 2}
# Then each leaves photos to the other: one that took all would keep them on half of the cores while others overtake.
_SHARED_BATCH = 4
# A photo's feature maps are 6 MB in 32 bits; a batch of 32 would be 200.
_BACKBONE_BATCH = 8


def schedule(config: pb.ModelConfig, options: ServingOptions) -> None:
    """Write the schedule into the configuration of ``preprocess``, a network or an ensemble."""
    if config.name.endswith("_backbone"):
        largest = min(options.max_batch_size, _BACKBONE_BATCH)
        preferred = min(options.preferred_batch_size, largest)
        options = dataclasses.replace(options, max_batch_size=largest, preferred_batch_size=preferred)
    config.max_batch_size = options.max_batch_size
    if config.backend == "python":
        config.instance_group[0].count = options.preprocess_instances
        config.parameters["max_backlog"].string_value = str(options.max_backlog)
    elif config.platform != "ensemble":
        config.instance_group[0].count = instances(options, config.backend)
        preferred = preferred_batch_size(options, config.backend)
        # Without one, Triton itself enters the largest.
        config.dynamic_batching.preferred_batch_size[:] = [preferred] if preferred < options.max_batch_size else []
        config.dynamic_batching.max_queue_delay_microseconds = options.max_queue_delay_us
        del config.model_warmup[:]
        config.model_warmup.extend(warmup(size) for size in warmup_batches(options))
        if options.threads:
            config.parameters[THREADS[config.backend]].string_value = str(options.threads)


def instances(options: ServingOptions, backend: str) -> int:
    """Return how many instances a network of a backend has."""
    return options.instances or _INSTANCES.get(backend, 1)


def preferred_batch_size(options: ServingOptions, backend: str) -> int:
    """Return how many photos a network of a backend takes at once while more wait."""
    if options.preferred_batch_size:
        return options.preferred_batch_size
    shares_the_cores = backend in _INSTANCES and instances(options, backend) > 1
    return min(_SHARED_BATCH, options.max_batch_size) if shares_the_cores else options.max_batch_size


def warmup_batches(options: ServingOptions) -> list[int]:
    """Return the batch sizes to execute before a network is ready: the powers of two, and the largest."""
    largest = min(options.warmup_batch, options.max_batch_size)
    powers = [1 << exponent for exponent in range(largest.bit_length())]
    return sorted({*powers, largest})


def largest_first(largest: int, others: Iterable[int]) -> list[int]:
    """Order warm-ups for TensorRT, which builds an engine anew for a batch outside of those seen so far."""
    return [largest, *sorted({1, *others} - {largest})]


def warmup(batch_size: int) -> pb.ModelWarmup:
    """Return a batch of random pixels to execute before a network is ready."""
    pixels = pb.ModelWarmup.Input(data_type=pb.TYPE_UINT8, dims=[224, 224, 3], random_data=True)
    return pb.ModelWarmup(name=f"batch_{batch_size}", batch_size=batch_size, inputs={PIXELS: pixels})
