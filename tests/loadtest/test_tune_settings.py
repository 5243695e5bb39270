"""The settings that ``tune`` compares, how they stand in configs, and the rule that picks one."""

import dataclasses
import math

import pytest
from google.protobuf import text_format
from hypothesis import given, settings
from hypothesis import strategies as st
from resnet_build import configs
from resnet_build.serving_options import ServingOptions
from resnet_client.preprocessing import PreprocessConfig
from resnet_loadtest.tune_settings import Setting, candidates, choose
from tritonclient.grpc import model_config_pb2 as pb

PRESENT = Setting(instances=1, threads=0, batch=32, delay_us=0, preprocess=1)
OTHER = dataclasses.replace(PRESENT, preprocess=2)
THIRD = dataclasses.replace(PRESENT, batch=4)


def rendered(**options):
    """The configs of a build, by model."""
    texts = configs.render_all(ServingOptions(**options), PreprocessConfig(resize=232, crop=224), 1000, ["int8"])
    return {name: text_format.Parse(text, pb.ModelConfig()) for name, text in texts.items()}


@settings(max_examples=15)
@given(st.integers(1, 64), st.integers(1, 1024), st.integers(1, 32), st.integers(0, 10_000_000), st.integers(1, 256))
def test_setting_is_what_the_build_would_render(instances, threads, batch, delay_us, preprocess):
    """A setting is read from configs as the build wrote it; applied to others, it gives what the build would write."""
    setting = Setting(instances, threads, batch, delay_us, preprocess)
    built = rendered(
        preferred_batch_size=batch,
        max_queue_delay_us=delay_us,
        instances=instances,
        preprocess_instances=preprocess,
        threads=threads,
    )
    others, again = (rendered(instances=3, threads=7, preferred_batch_size=2) for _ in range(2))
    for network in ("network_onnx", "network_torchscript", "network_int8"):
        assert Setting.of(built["preprocess"], built[network]) == setting
        assert setting.applied_to(others[network]) == built[network]
    changed = setting.applied_to(others["preprocess"])
    assert others == again  # copies were changed
    others["preprocess"].instance_group[0].count = preprocess
    assert changed == others["preprocess"]


def test_candidates_on_two_cores():
    """The cores divided in each way, and one change each of batch, delay and decoding."""
    assert candidates(PRESENT, max_batch_size=32, cores=2, has_gpu=False) == [
        PRESENT,
        Setting(instances=2, threads=1, batch=4, delay_us=0, preprocess=1),
        THIRD,
        dataclasses.replace(PRESENT, delay_us=1000),
        OTHER,
    ]


def test_candidates_on_a_gpu():
    """Instances share it, threads are left alone; decoding, which limits first, gets the cores."""
    found = candidates(PRESENT, max_batch_size=32, cores=16, has_gpu=True)
    assert {setting.instances for setting in found} == {1, 2, 4}
    assert {setting.threads for setting in found} == {0}
    assert [setting.preprocess for setting in found[1:-1]] == [14] * (len(found) - 2)


@pytest.mark.parametrize(
    ("present", "other", "lower_is_better", "wins"),
    [
        ([10, 10, 10, 10], [11, 12, 11, 12], False, True),
        ([10, 10, 10, 10], [10.2, 10.2, 10.2, 10.2], False, False),  # ahead, but by less than the margin
        ([10, 10, 10, 10], [20, 20, 20, 9], False, False),  # not in every round
        ([10, 10, 10, 10], [0, 0, 0, 0], False, False),
        ([0.2], [0.1], True, True),
        ([math.inf], [0.1], True, True),  # requests failed
        ([math.inf], [math.inf], True, False),
    ],
)
def test_choose_replaces_the_present_setting_only_by_a_clearly_better_one(present, other, lower_is_better, wins):
    """Over 3 % in the median, and ahead in every round; the best of several."""
    chosen = choose({PRESENT: present, OTHER: other}, PRESENT, lower_is_better=lower_is_better)
    assert chosen == (OTHER if wins else PRESENT)


def test_choose_takes_the_best_of_those_that_are_better():
    """By the median of what each gained in the rounds; a round in which all are slow counts like the others."""
    rounds = {PRESENT: [10, 5, 10], OTHER: [11, 5.5, 11], THIRD: [12, 6, 12]}
    assert choose(rounds, PRESENT, lower_is_better=False) == THIRD
