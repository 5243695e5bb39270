"""What of a model's configuration ``resnet-build tune`` chooses: batches, instances, threads, queue delay."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from tritonclient.grpc import model_config_pb2 as pb

from resnet_build.errors import BuildError
from resnet_build.options import ServingOptions
from resnet_build.tensors import PIXELS

# Backend → its parameter with the number of threads.
_THREAD_KEYS = {
    "onnxruntime": "intra_op_thread_count",
    "openvino": "INFERENCE_NUM_THREADS",
    "pytorch": "INTRA_OP_THREAD_COUNT",
}
# Two share the cores, so that neither waits for a photo that is decoded on one of them; alone, each has all.
_INSTANCES = {"openvino": 2}
# Then each leaves photos to the other: one that took all would keep them on half of the cores while others overtake.
_SHARED_BATCH = 4
# A photo's feature maps are 6 MB in 32 bits; a batch of 32 would be 200.
_BACKBONE_BATCH = 8


def is_network(config: pb.ModelConfig) -> bool:
    """Whether :func:`schedule` knows what to write into a model: pixels go in, and its backend can be told threads."""
    return config.backend in _THREAD_KEYS and any(tensor.name == PIXELS for tensor in config.input)


def schedule(config: pb.ModelConfig, options: ServingOptions) -> None:
    """Write the schedule into the configuration of ``preprocess``, a network or an ensemble.

    Raises:
        BuildError: a network of a backend that no build writes.
    """
    if config.name.endswith("_backbone"):
        largest = min(options.max_batch_size, _BACKBONE_BATCH)
        preferred = min(options.preferred_batch_size, largest)
        options = dataclasses.replace(options, max_batch_size=largest, preferred_batch_size=preferred)
    config.max_batch_size = options.max_batch_size
    if config.backend == "python":
        _first_group(config).count = options.preprocess_instances
        config.parameters["max_backlog"].string_value = str(options.max_backlog)
    elif config.platform != "ensemble":
        _first_group(config).count = instances(options, config.backend)
        preferred = preferred_batch_size(options, config.backend)
        # Without one, Triton itself enters the largest.
        config.dynamic_batching.preferred_batch_size[:] = [preferred] if preferred < options.max_batch_size else []
        config.dynamic_batching.max_queue_delay_microseconds = options.max_queue_delay_us
        del config.model_warmup[:]
        sizes = warmup_batches(options)
        if config.optimization.execution_accelerators.gpu_execution_accelerator:
            sizes = largest_first(options.max_batch_size, sizes)
        config.model_warmup.extend(warmup(size) for size in sizes)
        key = _threads_key(config)
        config.parameters.pop(key, None)
        if options.threads:
            config.parameters[key].string_value = str(options.threads)


def _first_group(config: pb.ModelConfig) -> pb.ModelInstanceGroup:
    return config.instance_group[0] if config.instance_group else config.instance_group.add()


def scheduled(preprocess: pb.ModelConfig, network: pb.ModelConfig, known: ServingOptions) -> ServingOptions:
    """Read what :func:`schedule` writes; the rest is that of ``known``, and its words where they say the same.

    Raises:
        BuildError: somebody wrote there what no build would.
    """
    key = _threads_key(network)
    try:
        count = network.instance_group[0].count
        found = dataclasses.replace(
            known,
            max_batch_size=network.max_batch_size,
            max_queue_delay_us=network.dynamic_batching.max_queue_delay_microseconds,
            instances=known.instances if instances(known, network.backend) == count else count,
            preprocess_instances=preprocess.instance_group[0].count,
            threads=int(network.parameters[key].string_value) if key in network.parameters else 0,
        )
        preferred = max(network.dynamic_batching.preferred_batch_size, default=network.max_batch_size)
        return with_preferred_batch(found, network.backend, preferred)
    except (IndexError, ValueError) as exc:
        raise BuildError(f"the schedule of {network.name} cannot be read from its configuration: {exc}") from exc


def instances(options: ServingOptions, backend: str) -> int:
    """Return how many instances a network of a backend has."""
    return options.instances or _INSTANCES.get(backend, 1)


def preferred_batch_size(options: ServingOptions, backend: str) -> int:
    """Return how many photos a network of a backend takes at once while more wait."""
    if options.preferred_batch_size:
        return options.preferred_batch_size
    shares_the_cores = backend in _INSTANCES and instances(options, backend) > 1
    return min(_SHARED_BATCH, options.max_batch_size) if shares_the_cores else options.max_batch_size


def with_preferred_batch(options: ServingOptions, backend: str, photos: int) -> ServingOptions:
    """Return options with which a network of a backend takes so many at once; as they are, if it does already."""
    if preferred_batch_size(options, backend) == photos:
        return options
    return dataclasses.replace(options, preferred_batch_size=photos)


def _threads_key(network: pb.ModelConfig) -> str:
    if network.backend not in _THREAD_KEYS:
        raise BuildError(f"how many threads {network.name} has cannot be said to its backend {network.backend!r}")
    return _THREAD_KEYS[network.backend]


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
