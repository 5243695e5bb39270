"""Checks of batching, queues, instances, threads and warm-up, model by model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resnet_client._doctor._check import Check, Hits

if TYPE_CHECKING:
    from collections.abc import Iterator

    from resnet_client._doctor._snapshot import Batching, Snapshot

LONGEST_DELAY_US = 100_000
"""A tenth of a second: what a person begins to notice."""

SMALL_ON_GPU = 8
"""Photos: smaller batches take a GPU nearly as long, so it computes fewer of them."""


def no_batching(seen: Snapshot) -> Hits:
    """A model without a batch dimension, or with one of 1."""
    for model in (seen.models or {}).values():
        if model.max_batch_size <= 1:
            yield model.name, f"max_batch_size is {model.max_batch_size}"


def no_dynamic_batching(seen: Snapshot) -> Hits:
    """A model that could take batches and is given none."""
    for model in seen.computing():
        if model.max_batch_size > 1 and model.batching is None:
            yield model.name, "its config has no dynamic_batching"


def queue_without_limit(seen: Snapshot) -> Hits:
    """A queue that takes whatever comes, behind a door that admits whoever comes."""
    for name, batching in _unguarded_queues(seen):
        if batching.queue_size == 0:
            yield name, "neither max_queue_size is set nor max_backlog of a model before it: its queue is endless"


def queue_without_timeout(seen: Snapshot) -> Hits:
    """Requests wait as long as it takes."""
    for name, batching in _unguarded_queues(seen):
        if batching.queue_timeout_us == 0:
            yield name, "default_timeout_microseconds is not set"


def queue_policy(seen: Snapshot) -> Hits:
    """Triton forms a batch only when a request arrives at an idle instance, as soon as there is a policy."""
    if _is_guarded(seen):
        for name, queue in _queues(seen):
            if queue.queue_size or queue.queue_timeout_us or queue.honours_timeout:
                yield name, "it has a default_queue_policy, beside the max_backlog of the model before it"


def queue_delays(seen: Snapshot) -> Hits:
    """Requests that are late get even later."""
    for name, batching in _queues(seen):
        if batching.delays:
            yield name, "timeout_action is DELAY"


def deadline_ignored(seen: Snapshot) -> Hits:
    """The deadline that the client sends is not read."""
    for name, batching in _unguarded_queues(seen):
        if not batching.honours_timeout:
            yield name, "allow_timeout_override is off"


def long_delay(seen: Snapshot) -> Hits:
    """Every lonely request waits this long."""
    for name, batching in _queues(seen):
        if batching.max_delay_us > LONGEST_DELAY_US:
            yield name, f"max_queue_delay_microseconds is {batching.max_delay_us}"


def preferred_batch_size(seen: Snapshot) -> Hits:
    """A GPU that is given small batches: Triton leaves in the queue what exceeds the largest preferred size."""
    for model in seen.networks():
        largest = max(model.batching.preferred, default=0) if model.batching else 0
        if model.gpu_instances and 0 < largest < min(SMALL_ON_GPU, model.max_batch_size):
            yield model.name, f"preferred_batch_size is {largest}, max_batch_size {model.max_batch_size}"


def preserve_ordering(seen: Snapshot) -> Hits:
    """Answers queue up behind each other."""
    for name, batching in _queues(seen):
        if batching.preserves_order:
            yield name, "preserve_ordering is on"


def threads_unset(seen: Snapshot) -> Hits:
    """Several instances to which NVIDIA's backends give every core each; OpenVINO's threads do not mind."""
    for model in seen.networks():
        if model.backend != "openvino" and model.cpu_instances > 1 and model.threads == 0:
            yield model.name, f"{model.cpu_instances} instances on the CPU, and no number of threads"


def threads_exceed_cores(seen: Snapshot) -> Hits:
    """More threads than cores."""
    for model in seen.networks():
        threads = model.cpu_instances * model.threads
        if seen.cores and threads > seen.cores:
            yield model.name, f"{model.cpu_instances} x {model.threads} threads on {seen.cores} cores"


def preprocess_instances(seen: Snapshot) -> Hits:
    """More processes that decode than cores; each decodes with a thread per core already."""
    for model in seen.computing():
        if model.backend == "python" and seen.cores and model.cpu_instances > seen.cores:
            yield model.name, f"{model.cpu_instances} processes on {seen.cores} cores"


def no_warmup(seen: Snapshot) -> Hits:
    """The first callers do the warming."""
    for model in seen.networks():
        if not model.warmed:
            yield model.name, "its config has no model_warmup"


def warmup_incomplete(seen: Snapshot) -> Hits:
    """On a GPU the first batch of a size can take a second; on a CPU it takes a few milliseconds more."""
    for model in seen.networks():
        if model.gpu_instances and model.warmed and max(model.warmed) < model.max_batch_size:
            yield model.name, f"batches of up to {max(model.warmed)} are warmed, of up to {model.max_batch_size} come"


def response_cache(seen: Snapshot) -> Hits:
    """Every photo is hashed and kept, though hardly any comes twice."""
    for model in (seen.models or {}).values():
        if model.caches:
            yield model.name, "response_cache is on"


def gpu_idle(seen: Snapshot) -> Hits:
    """The machine has a GPU, and the network computes on the CPU."""
    if seen.metrics is not None and "nv_gpu_utilization" in seen.metrics.names:
        for model in seen.networks():
            if model.cpu_instances and not model.gpu_instances:
                yield model.name, "it runs on the CPU of a machine with a GPU"


def _queues(seen: Snapshot) -> Iterator[tuple[str, Batching]]:
    return ((model.name, model.batching) for model in seen.computing() if model.batching is not None)


def _unguarded_queues(seen: Snapshot) -> Iterator[tuple[str, Batching]]:
    """The queues of a server where no model counts what waits before it admits more."""
    if not _is_guarded(seen):
        yield from _queues(seen)


def _is_guarded(seen: Snapshot) -> bool:
    return any("max_backlog" in model.parameters for model in (seen.models or {}).values())


CHECKS = (
    Check(
        "no-batching",
        "slow",
        ("models",),
        no_batching,
        "each photo is computed alone, at a fraction of the throughput",
        "resnet-build --max-batch-size 32",
    ),
    Check(
        "no-dynamic-batching",
        "slow",
        ("models",),
        no_dynamic_batching,
        "requests of different callers are never computed together",
        "add dynamic_batching to its config.pbtxt, or build the repository with resnet-build",
    ),
    Check(
        "queue-without-limit",
        "slow",
        ("models",),
        queue_without_limit,
        "under overload everybody waits ever longer, instead of some being refused at once, and memory fills",
        "build the repository with resnet-build, whose preprocess refuses what is too much, or set max_queue_size",
    ),
    Check(
        "queue-without-timeout",
        "slow",
        ("models",),
        queue_without_timeout,
        "the server computes for callers who gave up long ago",
        "build the repository with resnet-build --queue-timeout-ms 10000, or set default_timeout_microseconds",
    ),
    Check(
        "queue-policy",
        "slow",
        ("models",),
        queue_policy,
        "what arrives while it computes waits for the request after it, or for half a second (Triton 2.51 to 2.6x)",
        "leave default_queue_policy out, and let preprocess refuse what is too much: build it with resnet-build",
    ),
    Check(
        "queue-delays",
        "slow",
        ("models",),
        queue_delays,
        "what waited too long is computed last, for nobody, and is never refused",
        "set timeout_action: REJECT in default_queue_policy, or leave it out",
    ),
    Check(
        "deadline-ignored",
        "slow",
        ("models",),
        deadline_ignored,
        "the client sends its time-out along, but its requests stay in the queue when it is over",
        "build the repository with resnet-build, or set allow_timeout_override: true in default_queue_policy",
    ),
    Check(
        "long-delay",
        "slow",
        ("models",),
        long_delay,
        "in quiet times every request waits this long for company that does not come",
        "a batch fills while the one before is computed; 1000 is plenty: resnet-build --max-queue-delay-us 1000",
    ),
    Check(
        "preferred-batch-size",
        "slow",
        ("models",),
        preferred_batch_size,
        "no batch of single photos is larger, and a GPU takes nearly as long for a larger one",
        "leave preferred_batch_size out, or have resnet-loadtest tune choose it",
    ),
    Check(
        "preserve-ordering",
        "slow",
        ("models",),
        preserve_ordering,
        "a finished answer waits for all that were asked before it",
        "leave preserve_ordering out: every caller has a connection of its own",
    ),
    Check(
        "threads-unset",
        "slow",
        ("models",),
        threads_unset,
        "with NVIDIA's backends each has all cores, and they fight for them; resnet-serve's divide them",
        "cores divided by instances: resnet-build --instances 2 --threads N",
    ),
    Check(
        "threads-exceed-cores",
        "slow",
        ("models", "cores"),
        threads_exceed_cores,
        "threads wait for each other's turn on the cores",
        "instances times threads must not exceed the cores: resnet-build --instances … --threads …",
    ),
    Check(
        "preprocess-instances",
        "slow",
        ("models", "cores"),
        preprocess_instances,
        "each process decodes with a thread per core already, and takes memory of its own",
        "resnet-build --preprocess-instances 1; more only where a measurement asks for it",
    ),
    Check(
        "no-warmup",
        "slow",
        ("models",),
        no_warmup,
        "the first requests after a start take many times as long",
        "add model_warmup to its config.pbtxt, or build the repository with resnet-build",
    ),
    Check(
        "warmup-incomplete",
        "slow",
        ("models",),
        warmup_incomplete,
        "the first large batch after a start takes many times as long",
        "warm up the largest batch, too: resnet-build --warmup-batch, with the number of --max-batch-size",
    ),
    Check(
        "response-cache",
        "slow",
        ("models",),
        response_cache,
        "hashing and storing photos that never come again costs more than it saves (measured: 600 → 100 per second)",
        "leave response_cache out of its config.pbtxt",
    ),
    Check(
        "gpu-idle",
        "slow",
        ("models", "metrics"),
        gpu_idle,
        "a GPU is ten to a hundred times faster",
        "give it instances of KIND_GPU or KIND_AUTO, and packages that can compute on the GPU",
    ),
)
