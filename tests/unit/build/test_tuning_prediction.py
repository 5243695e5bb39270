"""The model of the batch time, and the simulation that predicts from it."""

from __future__ import annotations

import dataclasses
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st
from resnet_build.options import ServingOptions
from resnet_build.tuning import prediction, simulation, slo
from resnet_build.tuning.costs import BatchTime, Costs, Layout, fit

MILLISECONDS = st.floats(0.1, 1000).map(lambda number: number / 1000)


def costs(
    *, cores: int = 2, gpus: int = 0, decode_s: float = 0.002, fixed_s: float = 0.0, each_s: float = 0.01
) -> Costs:
    """A machine whose batches take exactly what is said, in any of three layouts."""
    layouts = (Layout(1, 0), Layout(2, 1), Layout(1, 1))
    measured = {layout: {size: fixed_s + each_s * size for size in (1, 4, 16)} for layout in layouts}
    return Costs(cores=cores, gpus=gpus, decode_s=decode_s, around_s=0.001, measured_s=measured)


@given(fixed_s=MILLISECONDS, each_s=MILLISECONDS)
def test_a_straight_line_is_found(fixed_s: float, each_s: float) -> None:
    """From exact times come the exact two numbers."""
    found = fit({size: fixed_s + each_s * size for size in (1, 4, 16)})
    assert found.fixed_s == pytest.approx(fixed_s, rel=1e-6, abs=1e-9)
    assert found.per_photo_s == pytest.approx(each_s, rel=1e-6, abs=1e-9)


@given(
    times_s=st.dictionaries(st.integers(1, 64), MILLISECONDS, min_size=1, max_size=5),
    fixed=st.floats(0, 1),
    each=st.floats(0, 1),
)
def test_no_other_line_fits_better(times_s: dict[int, float], fixed: float, each: float) -> None:
    """Of all lines with neither number below zero, the fit has the least squares of relative errors."""
    found = fit(times_s)
    assert found.fixed_s >= 0
    assert found.per_photo_s >= 0
    other = BatchTime(fixed * found.fixed_s * 2, each * found.per_photo_s * 2)
    assert squares(times_s, found) <= squares(times_s, other) * (1 + 1e-9) + 1e-12


def squares(times_s: dict[int, float], line: BatchTime) -> float:
    """Sum of the squared relative errors."""
    return sum((line.of(size) / seconds - 1) ** 2 for size, seconds in times_s.items())


@given(
    each_s=st.floats(0.001, 0.05),
    decode_s=st.floats(0.0001, 0.03),
    callers=st.integers(1, 24),
    batch=st.sampled_from([1, 4, 32]),
    layout=st.sampled_from([Layout(1, 0), Layout(2, 1), Layout(1, 1)]),
)
def test_nothing_is_faster_than_its_parts(
    each_s: float, decode_s: float, callers: int, batch: int, layout: Layout
) -> None:
    """Neither the network, nor the decoders, nor the cores, nor the callers can do more than they can."""
    machine = costs(each_s=each_s, decode_s=decode_s)
    options = ServingOptions(
        instances=layout.instances, threads=layout.threads, preferred_batch_size=batch, max_queue_delay_us=0
    )
    found = simulation.with_callers(machine, options, callers)
    work_s = decode_s + machine.around_s + each_s * machine.cores_of(layout)
    lonely_s = decode_s + machine.around_s + each_s
    bounds = (layout.instances / each_s, 1 / decode_s, machine.cores / work_s, callers / lonely_s)
    # Durations scatter by a tenth, and the window begins and ends at an answer.
    assert found.throughput <= 1.15 * min(bounds)
    assert 1 <= found.mean_batch <= min(batch, callers)


def test_a_lonely_photo_waits_for_the_delay_only() -> None:
    """Its latency is the sum of its parts, and a full batch does not wait."""
    machine = costs(each_s=0.01, decode_s=0.002)
    for batch, delay_us, expected_s in ((32, 0, 0.013), (32, 5000, 0.018), (1, 5000, 0.013)):
        options = ServingOptions(instances=1, preferred_batch_size=batch, max_queue_delay_us=delay_us)
        found = simulation.with_callers(machine, options, 1)
        assert statistics.median(found.latencies_s) == pytest.approx(expected_s, rel=0.03)


def test_waiting_fills_batches() -> None:
    """Where a batch costs much by itself, a delay gathers more photos for it."""
    machine = costs(fixed_s=0.005, each_s=0.0005, decode_s=0.0005, gpus=1)
    few, many = (
        simulation.at_rate(machine, ServingOptions(instances=1, max_queue_delay_us=delay_us), 400)
        for delay_us in (0, 20_000)
    )
    assert many.mean_batch > 2 * few.mean_batch


def test_a_gpu_takes_no_core() -> None:
    """On a GPU, decoding and the network do not slow each other down."""
    options = ServingOptions(instances=1, max_queue_delay_us=0)
    on_cpu, on_gpu = (
        simulation.with_callers(costs(decode_s=0.02, each_s=0.02, cores=1, gpus=gpus), options, 8).throughput
        for gpus in (0, 1)
    )
    assert on_gpu == pytest.approx(50, rel=0.1)
    assert on_cpu == pytest.approx(25, rel=0.1)


def test_a_rate_within_an_objective_is_kept() -> None:
    """The predicted rate keeps the objective, the next step does not, and what nobody can keep is 0."""
    machine = costs(each_s=0.01, decode_s=0.002)
    options = ServingOptions(instances=1, max_queue_delay_us=0)
    objective = slo.parse("p99<=60ms")
    rate = prediction.rates_within(machine, [options], objective)[options]
    assert objective.is_met(sorted(simulation.at_rate(machine, options, rate).latencies_s))
    assert not objective.is_met(sorted(simulation.at_rate(machine, options, rate * 1.2).latencies_s))
    impossible = dataclasses.replace(objective, bound_s=0.012)
    assert prediction.rates_within(machine, [options], impossible) == {options: 0.0}


@pytest.mark.parametrize("text", ["p50<=2s", "p99<=2s"])
def test_overload_is_simulated_until_it_is_seen(text: str) -> None:
    """A setting that another outruns is not predicted to keep what 400 photos are too few to overload."""
    machine = costs(cores=2, gpus=1, fixed_s=0.001, each_s=0.0002, decode_s=0.0001)
    strong = ServingOptions(instances=1, max_queue_delay_us=0)
    weak = dataclasses.replace(strong, preferred_batch_size=1)
    found = prediction.promising_within(machine, [weak, strong], slo.parse(text), weak, 4)
    assert 600 <= found[weak] <= 1.05 / 0.0012
