"""The settings that ``tune`` compares, in the configs of an ensemble's two models, and the rule that chooses one."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Mapping, Sequence

from resnet_client.instance_groups import first_group, instance_count, set_instance_count
from resnet_client.named_configs import THREADS
from resnet_client.preprocessing import threads_per_instance
from tritonclient.grpc import model_config_pb2 as pb

# A setting must be better in every round, and by more than this in the median, to replace the present one.
MARGIN = 0.03
_SMALL_BATCH = 4
_DELAY_US = 1000


@dataclasses.dataclass(frozen=True)
class Setting:
    """The settings that ``tune`` changes.

    Attributes:
        instances: of the network, on the CPU or per GPU.
        threads: CPU threads of each instance; 0 for all cores, divided among the instances.
        batch: images in a batch while more wait (``preferred_batch_size``).
        delay_us: longest wait for a batch to fill, in microseconds.
        preprocess: processes that decode images.
    """

    instances: int
    threads: int
    batch: int
    delay_us: int
    preprocess: int

    @classmethod
    def of(cls, preprocess: pb.ModelConfig, network: pb.ModelConfig) -> Setting:
        """Read the setting from the configs of both models."""
        key, batching = THREADS[network.backend], network.dynamic_batching
        return cls(
            instances=instance_count(network),
            threads=int(network.parameters[key].string_value) if key in network.parameters else 0,
            batch=max(batching.preferred_batch_size, default=network.max_batch_size),
            delay_us=batching.max_queue_delay_microseconds,
            preprocess=instance_count(preprocess),
        )

    def applied_to(self, config: pb.ModelConfig) -> pb.ModelConfig:
        """Return a copy of the config of either model with this setting."""
        changed = pb.ModelConfig()
        changed.CopyFrom(config)
        if (key := THREADS.get(config.backend)) is None:
            first_group(changed).count = self.preprocess
            return changed
        set_instance_count(changed, self.instances)
        # If it is empty, Triton uses the largest batch.
        changed.dynamic_batching.preferred_batch_size[:] = [self.batch] if self.batch < config.max_batch_size else []
        changed.dynamic_batching.max_queue_delay_microseconds = self.delay_us
        changed.parameters.pop(key, None)
        if self.threads:
            changed.parameters[key].string_value = str(self.threads)
        return changed

    def __str__(self) -> str:
        threads = f"{self.threads} threads each" if self.threads else "sharing all cores"
        return (
            f"{self.instances} instances, {threads}; preferred batch {self.batch}; queue delay {self.delay_us} us; "
            f"{self.preprocess} preprocess instances"
        )


def candidates(present: Setting, *, max_batch_size: int, cores: int, has_gpu: bool) -> list[Setting]:
    """Return the settings to measure, the present one first.

    On the CPU, 1, 2, 4 or 8 instances divide the cores. On a GPU, 1, 2 or 4 instances share it, and decoding, the usual
    bottleneck there, gets all cores but two. Batch, delay and decoding are each changed once.
    """
    change = dataclasses.replace
    small = min(_SMALL_BATCH, max_batch_size)
    base = change(present, preprocess=max(present.preprocess, cores - 2)) if has_gpu else present
    found = [present, base]
    if has_gpu:
        found += [change(base, instances=instances) for instances in (1, 2, 4)]
    else:
        found.append(change(base, instances=1, threads=0, batch=max_batch_size))
        # With the largest batch, one instance would take all waiting images.
        found += [
            change(base, instances=instances, threads=threads_per_instance(cores, instances), batch=small)
            for instances in (2, 4, 8)
            if instances <= cores
        ]
    found += [
        change(base, batch=small if base.batch == max_batch_size else max_batch_size),
        change(base, delay_us=0 if base.delay_us else _DELAY_US),
        change(present, preprocess=min(2 * present.preprocess, cores)),
    ]
    return list(dict.fromkeys(found))


def choose(rounds: Mapping[Setting, Sequence[float]], present: Setting, *, lower_is_better: bool) -> Setting:
    """Return the best setting; the present one unless another is better by more than the noise.

    Args:
        rounds: setting to its measurement in each round, which is compared with the present setting in that round.
        present: one of them.
        lower_is_better: true for latencies.
    """
    gains = {setting: _gains(values, rounds[present], lower_is_better) for setting, values in rounds.items()}
    medians = {setting: statistics.median(ratios) for setting, ratios in gains.items() if min(ratios) > 1}
    better = [setting for setting, median in medians.items() if median > 1 + MARGIN]
    return max(better, key=medians.__getitem__, default=present)


def _gains(values: Sequence[float], before: Sequence[float], lower_is_better: bool) -> list[float]:
    """Ratio of each value to the one before at the same position; above 1 is better."""
    pairs = zip(before, values, strict=True) if lower_is_better else zip(values, before, strict=True)
    return [1.0 if one == other else one / max(other, 1e-9) for one, other in pairs]
