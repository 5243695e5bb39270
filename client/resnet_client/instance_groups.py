"""The instances of a network in its model config: the first one takes batches while it can, the others when it is busy.

Each instance has a copy of the weights. Instances that take turns would find theirs gone from the CPU's cache.
"""

from __future__ import annotations

from tritonclient.grpc import model_config_pb2 as pb

# Triton takes the free instance with the lowest product of its batches so far and this number, which is 1 by default.
_LAST = 1000


def instance_count(config: pb.ModelConfig) -> int:
    """Return how many instances Triton starts, on the CPU or per GPU."""
    return sum(group.count for group in config.instance_group) or 1


def first_group(config: pb.ModelConfig) -> pb.ModelInstanceGroup:
    """Return the first group of a config; one without groups gets an empty one."""
    return config.instance_group[0] if config.instance_group else config.instance_group.add()


def set_instance_count(config: pb.ModelConfig, count: int) -> None:
    """Write the instances of a network: one group for the first, and a second group for the others.

    ``resnet-serve`` enables Triton's rate limiter, which reads the second group's priority; without it, as in NVIDIA's
    container, all instances are equal.

    Args:
        config: the kind of its first group is kept; Triton chooses it if there is none.
        count: of the instances, on the CPU or per GPU.
    """
    first = first_group(config)
    first.count = 1
    del config.instance_group[1:]
    if count > 1:
        others = config.instance_group.add()
        others.CopyFrom(first)
        others.count = count - 1
        others.rate_limiter.priority = _LAST
