"""Which settings are measured, and which of them is chosen."""

from __future__ import annotations

import dataclasses
import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from resnet_build.errors import BuildError
from resnet_build.options import ServingOptions
from resnet_build.tuning import candidates, contest, ladder, slo
from resnet_build.tuning.costs import Layout

CURRENT = ServingOptions(instances=1, preferred_batch_size=32)
SETTINGS = candidates.settings(CURRENT, candidates.layouts(CURRENT, 4, 0), 4)
ROUNDS = st.lists(st.floats(10, 100), min_size=3, max_size=3)


def ignore(_sentence: str) -> None:
    """Take what is reported."""


def test_cpus_are_divided_and_gpus_are_shared() -> None:
    """On a CPU, threads times instances are the cores, half of them, or all twice; on a GPU, instances count."""
    assert set(candidates.layouts(CURRENT, 4, 0)) == {
        Layout(1, 0), Layout(2, 2), Layout(4, 1), Layout(2, 4), Layout(1, 2),
    }  # fmt: skip
    assert set(candidates.layouts(CURRENT, 1, 0)) == {Layout(1, 0), Layout(2, 1)}
    assert [layout.instances for layout in candidates.layouts(CURRENT, 4, 2)] == [1, 2, 3, 4]


@pytest.mark.parametrize("cores", [255, 384, 1024])
def test_no_more_is_tried_than_an_option_may_be(cores: int) -> None:
    """On a machine with more cores than there may be decoding processes."""
    settings = candidates.settings(CURRENT, candidates.layouts(CURRENT, cores, 0), cores)
    assert max(setting.preprocess_instances for setting in settings) == min(cores, 256)


def test_the_present_setting_is_always_measured() -> None:
    """So that a tuning never makes anything worse without seeing it."""
    odd = ServingOptions(instances=3, threads=5, preferred_batch_size=7, max_queue_delay_us=123)
    settings = candidates.settings(odd, candidates.layouts(odd, 4, 0), 4)
    assert settings[0] == odd
    assert len(set(settings)) == len(settings)
    predicted = {setting: 1.0 if setting == odd else 100.0 for setting in settings}
    assert candidates.promising(predicted, odd, 4)[0] == odd


@given(seed=st.integers(0, 2**32 - 1), how_many=st.integers(1, 6))
def test_the_promising_are_few_and_promising(seed: int, how_many: int) -> None:
    """All but the present one are near the best prediction, and among them is one as good as the best."""
    scores = random.Random(seed)  # noqa: S311  # repeatable
    predicted = {setting: scores.uniform(50, 100) for setting in SETTINGS}
    found = candidates.promising(predicted, CURRENT, how_many)
    assert 1 <= len(found) == len(set(found)) <= how_many
    best = max(predicted.values())
    assert all(predicted[setting] >= 0.85 * best for setting in found if setting != CURRENT)
    if how_many > 1:
        assert max(predicted[setting] for setting in found) >= 0.98 * best


def test_layouts_come_first() -> None:
    """Where all are predicted alike, one of each layout is measured, the simplest."""
    found = candidates.promising(dict.fromkeys(SETTINGS, 10.0), CURRENT, 5)
    assert len({Layout.of(setting) for setting in found[1:]}) == len(found) - 1
    assert {setting.max_queue_delay_us for setting in found[1:]} == {0}


@given(st.lists(ROUNDS, min_size=1, max_size=6), st.randoms(use_true_random=False))
def test_the_winner_is_nearly_the_best_whatever_the_order(rounds: list[list[float]], order: random.Random) -> None:
    """It reaches 97 % of the best, round by round, was ahead of it once, and nobody simpler does so too."""
    entries = [contest.Entry(setting, 0.0, rounds=list(one)) for setting, one in zip(SETTINGS, rounds, strict=False)]
    best = contest.best_of(entries)
    assert best.median == max(entry.median for entry in entries)
    chosen = contest.winner(entries)
    ratios = sorted(one / two for one, two in zip(chosen.rounds, best.rounds, strict=True))
    assert ratios[1] >= 0.97
    assert ratios[2] >= 1
    shuffled = list(entries)
    order.shuffle(shuffled)
    assert contest.winner(shuffled).median == chosen.median


def test_of_equals_the_simplest_wins() -> None:
    """Fewer processes, no waiting, and large batches."""
    complex_one = dataclasses.replace(CURRENT, instances=2, threads=1)
    waiting, small, simple = (
        dataclasses.replace(CURRENT, max_queue_delay_us=1000),
        dataclasses.replace(CURRENT, preferred_batch_size=8),
        CURRENT,
    )
    same = [10.0, 10.1, 9.9]
    entries = [contest.Entry(options, 0.0, rounds=same) for options in (complex_one, waiting, small, simple)]
    assert contest.winner(entries).options == simple


@pytest.mark.parametrize(("speed", "wins"), [(99.0, True), (96.0, False)])
def test_what_is_in_force_stays_unless_something_is_better(speed: float, wins: bool) -> None:
    """Among equals it wins however complex it is; three per cent are no equals."""
    present = contest.Entry(ServingOptions(instances=2, threads=1), 0.0, is_present=True, rounds=[speed, speed, 101.0])
    simple = contest.Entry(ServingOptions(instances=1), 0.0, rounds=[100.0, 100.0, 100.0])
    assert (contest.winner([present, simple]) is present) == wins


def test_who_is_behind_is_not_measured_again() -> None:
    """The rounds go in turns, in both directions, and only the strong ones see the second."""
    speeds = dict(zip(SETTINGS[:3], (100.0, 60.0, 99.0), strict=True))
    calls: list[ServingOptions] = []

    def measure(options: ServingOptions) -> float:
        calls.append(options)
        return speeds[options]

    entries = [contest.Entry(setting, 0.0) for setting in speeds]
    contest.hold(entries, measure, 3, ignore)
    first, second, third = SETTINGS[:3]
    assert calls == [first, second, third, third, second, first, first, third]


@pytest.mark.parametrize(("simple", "complex_one", "rounds"), [(100.0, 99.0, 3), (99.0, 100.0, 5), (96.0, 100.0, 5)])
def test_the_contest_ends_when_nobody_can_win_any_more(simple: float, complex_one: float, rounds: int) -> None:
    """After three rounds, if the preferred is as good as the best; not if it was never ahead, or is slower."""
    speeds = {ServingOptions(instances=1): simple, ServingOptions(instances=2, threads=1): complex_one}
    entries = [contest.Entry(setting, 0.0) for setting in speeds]
    contest.hold(entries, speeds.__getitem__, 5, ignore)
    assert [len(entry.rounds) for entry in entries] == [rounds, rounds]


@pytest.mark.parametrize("limit", [20.0, 50.0, 75.0])
def test_the_ladder_finds_the_rate(limit: float) -> None:
    """From a prediction that is too high or too low, it ends within a rung of what is really kept."""
    objective = slo.parse("p99<=100ms")

    def measure(options: ServingOptions, rate: float, _seed: int) -> list[float]:
        bound = limit if options is strong else limit / 2
        return [0.05] * 200 if rate <= bound else [0.05] * 100 + [0.2] * 100

    strong, weak = SETTINGS[:2]
    climbers = [ladder.Climber(weak, 50.0), ladder.Climber(strong, 50.0)]
    chosen = ladder.climb(climbers, measure, objective, ignore)
    assert chosen is climbers[1]
    assert limit / 1.25 <= chosen.rate <= limit


def test_a_single_hiccup_is_no_verdict() -> None:
    """What misses once and keeps with twice the photos keeps."""
    objective = slo.parse("p99<=100ms")
    samples = {0: [0.05] * 197 + [0.2] * 3, 1: [0.05] * 200}
    climber = ladder.Climber(CURRENT, 10.0)
    ladder.climb([climber], lambda _options, _rate, seed: samples[seed], objective, ignore)
    assert climber.kept
    assert not climber.missed


def queueing_server(objective: slo.Slo, capacity: float, photo_s: float) -> ladder.Measure:
    """A server that answers so many photos a second, one after the other; those that wait make the next wait."""

    def measure(_options: ServingOptions, rate: float, seed: int) -> list[float]:
        seconds = ladder.seconds_for(objective, rate, 2.5)
        arrivals = random.Random(seed)  # noqa: S311  # repeatable
        free_s, latencies = 0.0, []
        for moment_s in sorted(arrivals.uniform(0, seconds) for _ in range(round(rate * seconds))):
            free_s = max(free_s, moment_s) + 1 / capacity
            latencies.append(free_s - moment_s + photo_s)
        return latencies

    return measure


@pytest.mark.parametrize("text", ["p50<=0.5s", "p99<=1s", "p99<=0.5s", "p99<=100ms"])
@pytest.mark.parametrize("predicted", [30.0, 48.0, 52.0, 60.0, 80.0])
def test_what_is_kept_is_kept_for_long(text: str, predicted: float) -> None:
    """Whatever the bound, overload is not taken for a rate that the machine keeps because the measuring ended."""
    objective = slo.parse(text)
    climber = ladder.Climber(CURRENT, predicted)
    ladder.climb([climber], queueing_server(objective, 52.0, 0.02), objective, ignore)
    assert climber.kept
    assert climber.rate <= 52 * 1.04  # what is nearer to the capacity takes minutes to tell
    assert climber.rate >= 52 / 2


def test_a_hiccup_is_no_growth_and_chance_is_none() -> None:
    """A queue grows if most photos of the second half wait longer, by more than they would by chance."""
    assert slo.is_growing([[0.1 * number for number in range(100)]], 20.0)
    assert not slo.is_growing([[0.05] * 80 + [3.0] * 20], 10.0)
    assert not slo.is_growing([[0.02] * 50 + [0.04] * 50], 10.0)
    assert not slo.is_growing([[]], 10.0)


def test_a_long_bound_is_measured_for_long() -> None:
    """For ten bounds at least; a short one costs nothing."""
    assert ladder.seconds_for(slo.parse("p50<=2s"), 50.0, 2.5) == 20
    assert ladder.seconds_for(slo.parse("p99<=100ms"), 80.0, 2.5) == 3


@pytest.mark.parametrize(
    ("text", "share", "bound_s"),
    [("p99<=100ms", 0.99, 0.1), (" p50 <= 2s ", 0.5, 2.0), ("p99.9<=1.5ms", 0.999, 0.0015)],
)
def test_objectives_are_read(text: str, share: float, bound_s: float) -> None:
    """Percentile and bound, with spaces or without."""
    found = slo.parse(text)
    assert math.isclose(found.share, share)
    assert math.isclose(found.bound_s, bound_s)


@pytest.mark.parametrize("text", ["", "p99", "p99<=100", "p0<=1ms", "p99<=0ms", "p100<=1ms", "p99>=1ms", "mean<=1ms"])
def test_what_is_no_objective_is_refused(text: str) -> None:
    """With an example of one that is."""
    with pytest.raises(BuildError, match="p99<=100ms"):
        slo.parse(text)


@pytest.mark.parametrize(
    ("name", "count", "rank"),
    [("p99.9", 1000, 999), ("p55", 100, 55), ("p99", 100, 99), ("p99", 101, 100), ("p50", 3, 2)],
)
def test_a_percentile_is_of_the_rank_that_it_says(name: str, count: int, rank: int) -> None:
    """Also where the share is no exact float."""
    assert slo.parse(f"{name}<=1s").value_s(range(1, count + 1)) == rank


@pytest.mark.parametrize(("name", "photos"), [("p50", 4), ("p99", 200), ("p99.9", 2000)])
def test_a_sample_has_two_above_the_bound(name: str, photos: int) -> None:
    """And not one photo more."""
    assert slo.parse(f"{name}<=1s").smallest_sample == photos


@given(st.lists(st.floats(0, 10), min_size=1).map(sorted), st.sampled_from(["p50", "p90", "p99"]))
def test_a_percentile_is_one_of_the_latencies(latencies_s: list[float], name: str) -> None:
    """At least that share is not above it, and it is the smallest such."""
    objective = slo.parse(f"{name}<=1s")
    value_s = objective.value_s(latencies_s)
    count = sum(one <= value_s for one in latencies_s)
    assert count >= objective.share * len(latencies_s)
    below = [one for one in latencies_s if one < value_s]
    assert len(below) < objective.share * len(latencies_s)
