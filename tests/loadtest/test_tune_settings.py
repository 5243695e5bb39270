"""The settings that ``tune`` compares, how they stand in configs, and the rule that picks one."""

import dataclasses
import math

import pytest
from google.protobuf import text_format
from hypothesis import given
from hypothesis import strategies as st
from resnet_build import configs
from resnet_build.serving_options import ServingOptions
from resnet_client.preprocessing import PreprocessConfig
from resnet_loadtest.tune_settings import Setting, candidates, choose
from tritonclient.grpc import model_config_pb2 as pb

PRESENT = Setting(instances=1, threads=0, batch=32, delay_us=0, preprocess=1)
OTHER = dataclasses.replace(PRESENT, preprocess=2)
THIRD = dataclasses.replace(PRESENT, batch=4)
NETWORKS = ("network_onnx", "network_torchscript", "network_int8")


def rendered(**options):
    """The configs of a build, by model."""
    texts = configs.render_all(ServingOptions(**options), PreprocessConfig(resize=232, crop=224), 1000, ["int8"])
    return {name: text_format.Parse(text, pb.ModelConfig()) for name, text in texts.items()}


@given(
    batch=st.integers(1, 32),
    delay_us=st.integers(0, 10_000_000),
    instances=st.integers(1, 64),
    preprocess=st.integers(1, 256),
    threads=st.integers(1, 1024),
)
def test_setting_is_what_the_build_would_render(batch, delay_us, instances, preprocess, threads):
    """A setting is read from configs as the build wrote it; applied to others, it leaves what the build would write."""
    setting = Setting(instances, threads, batch, delay_us, preprocess)
    built = rendered(
        preferred_batch_size=batch,
        max_queue_delay_us=delay_us,
        instances=instances,
        preprocess_instances=preprocess,
        threads=threads,
    )
    others = rendered(instances=3, threads=7, preferred_batch_size=2)
    for network in NETWORKS:
        assert Setting.of(built["preprocess"], built[network]) == setting
        assert setting.applied_to(others[network]) == built[network]
    changed = setting.applied_to(others["preprocess"])
    assert changed.instance_group[0].count == preprocess
    changed.instance_group[0].count = others["preprocess"].instance_group[0].count
    assert changed == others["preprocess"]


def test_applied_to_leaves_the_original_alone():
    """The config of the file is applied to once for each model."""
    config = rendered()["network_onnx"]
    before = config.SerializeToString(deterministic=True)
    dataclasses.replace(PRESENT, threads=3).applied_to(config)
    assert config.SerializeToString(deterministic=True) == before


def test_candidates_on_two_cores():
    """The cores divided in each way, and one change each of batch, delay and decoding."""
    assert candidates(PRESENT, max_batch_size=32, cores=2, has_gpu=False) == [
        PRESENT,
        Setting(instances=2, threads=1, batch=4, delay_us=0, preprocess=1),
        dataclasses.replace(PRESENT, batch=4),
        dataclasses.replace(PRESENT, delay_us=1000),
        dataclasses.replace(PRESENT, preprocess=2),
    ]


def test_candidates_that_say_the_same_are_one():
    """No number of threads means all cores, divided: the default of OpenVINO's networks is not measured twice."""
    present = Setting(instances=2, threads=0, batch=4, delay_us=0, preprocess=1)
    found = candidates(present, max_batch_size=32, cores=2, has_gpu=False)
    assert found[0] == present
    assert dataclasses.replace(present, threads=1) not in found


def test_candidates_on_a_gpu():
    """Instances share it, threads are left alone; decoding, which limits first, gets the cores."""
    found = candidates(PRESENT, max_batch_size=32, cores=16, has_gpu=True)
    assert found[0] == PRESENT
    assert {setting.instances for setting in found} == {1, 2, 4}
    assert {setting.threads for setting in found} == {0}
    assert [setting.preprocess for setting in found[1:-1]] == [14] * (len(found) - 2)


@given(
    present=st.builds(
        Setting, st.integers(1, 9), st.integers(0, 9), st.integers(1, 32), st.integers(0, 5000), st.integers(1, 9)
    ),
    cores=st.integers(1, 256),
    has_gpu=st.booleans(),
)
def test_candidates_are_few_and_distinct(present, cores, has_gpu):
    """The present setting is the first; none needs larger batches than a request may have."""
    found = candidates(present, max_batch_size=32, cores=cores, has_gpu=has_gpu)
    assert found[0] == present
    assert len(found) == len(set(found)) <= 8
    assert max(setting.batch for setting in found) <= 32
    if not has_gpu:
        assert all(
            setting.instances * setting.threads <= cores for setting in found if setting.instances != present.instances
        )


@pytest.mark.parametrize(
    ("other", "wins"),
    [
        ([11, 12, 11, 12], True),
        ([10.2, 10.2, 10.2, 10.2], False),  # ahead, but by less than the margin
        ([20, 20, 20, 9], False),  # not in every round
        ([9, 9, 9, 9], False),
        ([0, 0, 0, 0], False),
    ],
)
def test_choose_replaces_the_present_setting_only_by_a_clearly_better_one(other, wins):
    """Over 3 % in the median, and ahead in every round."""
    rounds = {PRESENT: [10, 10, 10, 10], OTHER: other}
    assert choose(rounds, PRESENT, lower_is_better=False) == (OTHER if wins else PRESENT)


def test_choose_takes_the_best_of_those_that_are_better():
    """By the median of what each gained in the rounds; a round in which all are slow counts like the others."""
    rounds = {PRESENT: [10, 5, 10], OTHER: [11, 5.5, 11], THIRD: [12, 6, 12]}
    assert choose(rounds, PRESENT, lower_is_better=False) == THIRD


@pytest.mark.parametrize(
    ("before", "other", "wins"),
    [
        (0.2, 0.1, True),
        (0.1, 0.2, False),
        (math.inf, 0.1, True),
        (0.1, math.inf, False),
        (math.inf, math.inf, False),
    ],
)
def test_choose_prefers_lower_latencies(before, other, wins):
    """An infinite one is that of a setting under which requests failed."""
    chosen = choose({PRESENT: [before] * 3, OTHER: [other] * 3}, PRESENT, lower_is_better=True)
    assert chosen == (OTHER if wins else PRESENT)


def test_choose_without_any_answer_keeps_the_present_setting():
    """Nothing is better than nothing."""
    assert choose({PRESENT: [0.0], OTHER: [0.0]}, PRESENT, lower_is_better=False) == PRESENT
