"""From samples to a verdict."""

import dataclasses

import pytest
from resnet_loadtest.analysis import Verdict
from resnet_loadtest.options import Options
from resnet_loadtest.samples import Status, merged, table

from .conftest import measured, samples_of, step_of


def options(slo="", **more):
    """Open loop, 100 per second for 10 s."""
    return Options(rate=100.0, duration_s=10.0, slo=slo, **more)


@pytest.mark.parametrize(
    ("slo", "verdict"),
    [("p99<=11ms,throughput>=90/s", Verdict.PASS), ("p99<=9ms", Verdict.FAIL), ("", Verdict.MEASURED)],
)
def test_verdict_of_a_valid_run(make_run, slo, verdict):
    """1000 answers of 10 ms each."""
    assert make_run(samples_of([0.01] * 1000), options=options(slo)).verdict is verdict


def test_too_few_requests_for_a_percentile_are_invalid(make_run):
    """p99 takes 299 requests."""
    run = make_run(samples_of([0.01] * 200), options=options("p99<=1s"))
    assert run.verdict is Verdict.INVALID
    assert "needs 299 requests" in run.warnings[0]


def test_each_stage_needs_its_own_sample(make_run):
    """1000 requests are enough for a run, but not for each of five steps of 200."""
    asked = options("p99<=1s", profile="steps", slo_per="stage")
    assert make_run(samples_of([0.01] * 1000), options=asked).verdict is Verdict.INVALID
    assert make_run(samples_of([0.01] * 1000), options=options("p99<=1s", profile="steps")).verdict is Verdict.PASS


def test_a_busy_generator_makes_the_run_invalid(make_run):
    """Above 90 % of a core."""
    busy = measured(range(10), cpu=0.95)
    run = make_run(samples_of([0.01] * 1000), generator=busy, options=options("p99<=1s"))
    assert run.verdict is Verdict.INVALID
    assert "95% of its CPU core" in run.warnings[0]
    assert "The load generator, not the server" in run.bottleneck


def test_bottleneck_of_the_stage_with_the_highest_load(make_run):
    """Four easy steps do not hide that the fifth is more than the server can do."""
    run = make_run(samples_of([0.01] * 1000), options=options(profile="steps"))
    full = {"network_onnx": step_of("network_onnx", 200, queue_s=0.008, compute_s=0.01)}
    easy = {"network_onnx": step_of("network_onnx", 200, compute_s=0.008)}
    server = dataclasses.replace(run.server, stage_steps=(easy, easy, easy, easy, full))
    message = dataclasses.replace(run, server=server).bottleneck
    assert message.startswith("Compute: requests wait for network_onnx 80%")
    assert message.endswith("Measured at step 100 %.")


def test_late_sends_make_the_run_invalid(make_run):
    """50 ms late on answers of 10 ms."""
    run = make_run(samples_of([0.01] * 1000, late_s=0.05), options=options("p99<=1s"))
    assert run.verdict is Verdict.INVALID
    assert "sent late" in run.warnings[0]


def test_lateness_that_hardly_shows_is_accepted(make_run):
    """50 ms late on answers of 2 s, and counted in the response time."""
    run = make_run(samples_of([2.0] * 1000, late_s=0.05), options=options("p99<=3s"))
    assert run.verdict is Verdict.PASS
    assert run.whole.percentile_s(99) == pytest.approx(2.05)
    assert run.whole.percentile_s(99, of="service") == pytest.approx(2.0)


def test_unsent_requests_make_the_run_invalid(make_run):
    """2 % were given up by the generator."""
    statuses = [Status.UNSENT] * 20 + [Status.OK] * 980
    run = make_run(samples_of([0.01] * 1000, statuses=statuses), options=options())
    assert run.verdict is Verdict.INVALID
    assert "only 98.0% of the scheduled" in run.warnings[0]


def test_the_cap_on_requests_in_flight_counts_as_failure(make_run):
    """The server did not keep up: failed, not invalid."""
    statuses = [Status.CAPPED] * 20 + [Status.OK] * 980
    run = make_run(samples_of([0.01] * 1000, statuses=statuses), options=options("error_rate<=1%"))
    assert run.verdict is Verdict.FAIL


@pytest.mark.parametrize(("counted", "shared", "verdict"), [
    (1000, False, Verdict.MEASURED), (999, False, Verdict.INVALID), (1001, False, Verdict.INVALID),
    (1001, True, Verdict.MEASURED), (999, True, Verdict.INVALID),
])  # fmt: skip
def test_client_and_server_must_agree(make_run, counted, shared, verdict):
    """To the last image; a shared server may count more."""
    steps = {"resnet50": step_of("resnet50", counted)}
    run = make_run(samples_of([0.01] * 1000), steps=steps, options=options(shared_server=shared))
    assert run.verdict is verdict


def test_timed_out_requests_may_be_counted_either_way(make_run):
    """The server may have answered requests for which the client no longer waited."""
    statuses = [Status.DEADLINE] * 2 + [Status.OK] * 998
    for counted in (998, 999, 1000):
        steps = {"resnet50": step_of("resnet50", counted)}
        assert make_run(samples_of([0.01] * 1000, statuses=statuses), steps=steps).verdict is Verdict.MEASURED


def test_an_empty_run_proves_nothing(make_run):
    """No request, no verdict."""
    assert make_run(table([])).verdict is Verdict.INVALID


def test_tables_of_workers_merge_exactly():
    """Every row once, ordered by intended time."""
    whole = samples_of([0.01] * 100)
    assert merged([whole[1::2], whole[0::2]]).tolist() == whole.tolist()


def test_memory_growth_leaves_the_warm_up_out(make_run):
    """From a fifth of the run to its end; unknown for runs under a minute."""
    generator = measured(range(20), rss_bytes=100) + measured(range(20, 101), rss_bytes=200)
    assert make_run(samples_of([0.01]), generator=generator).memory_growth == 0.0
    assert make_run(samples_of([0.01]), generator=generator[:30]).memory_growth is None
