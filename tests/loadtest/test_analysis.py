"""From samples to a verdict."""

import dataclasses

import pytest
from resnet_loadtest.analysis import Verdict
from resnet_loadtest.options import Options
from resnet_loadtest.samples import Status, merged, table

from .conftest import measured, run_of, samples_of, step_of


def options(slo="", **more):
    """Open loop, 100 per second for 10 s."""
    return Options(rate=100.0, duration_s=10.0, slo=slo, **more)


@pytest.mark.parametrize(
    ("slo", "verdict"),
    [("p99<=11ms,throughput>=90/s", Verdict.PASS), ("p99<=9ms", Verdict.FAIL), ("", Verdict.MEASURED)],
)
def test_verdict_of_a_valid_run_follows_from_the_objectives(slo, verdict):
    """1000 answers of 10 ms each."""
    assert run_of(samples_of([0.01] * 1000), options=options(slo)).verdict is verdict


def test_verdict_with_too_few_requests_for_a_percentile_is_invalid():
    """p99 takes 299 requests."""
    run = run_of(samples_of([0.01] * 200), options=options("p99<=1s"))
    assert run.verdict is Verdict.INVALID
    assert "needs 299 requests" in run.warnings[0]


def test_verdict_per_stage_needs_the_sample_in_each_stage():
    """1000 requests are enough for a run, but not for each of five steps of 200."""
    asked = options("p99<=1s", profile="steps", slo_per="stage")
    assert run_of(samples_of([0.01] * 1000), options=asked).verdict is Verdict.INVALID
    assert run_of(samples_of([0.01] * 1000), options=options("p99<=1s", profile="steps")).verdict is Verdict.PASS


def test_verdict_with_a_busy_generator_is_invalid():
    """Above 90 % of a core."""
    busy = measured(range(10), cpu=0.95)
    run = run_of(samples_of([0.01] * 1000), generator=busy, options=options("p99<=1s"))
    assert run.verdict is Verdict.INVALID
    assert "95% of its CPU core" in run.warnings[0]
    assert "The load generator, not the server" in run.bottleneck


def test_bottleneck_is_that_of_the_stage_with_the_highest_load():
    """Four easy steps do not hide that the fifth is more than the server can do."""
    run = run_of(samples_of([0.01] * 1000), options=options(profile="steps"))
    full = {"network_onnx": step_of("network_onnx", 200, queue_s=0.008, compute_s=0.01)}
    easy = {"network_onnx": step_of("network_onnx", 200, compute_s=0.008)}
    server = dataclasses.replace(run.server, stage_steps=(easy, easy, easy, easy, full))
    message = dataclasses.replace(run, server=server).bottleneck
    assert message.startswith("Compute: requests wait for network_onnx 80%")
    assert message.endswith("Measured at step 100 %.")


def test_verdict_with_late_requests_is_invalid():
    """50 ms late on answers of 10 ms."""
    run = run_of(samples_of([0.01] * 1000, late_s=0.05), options=options("p99<=1s"))
    assert run.verdict is Verdict.INVALID
    assert "sent late" in run.warnings[0]


def test_verdict_accepts_lateness_that_hardly_shows():
    """50 ms late on answers of 2 s, and counted in the response time."""
    run = run_of(samples_of([2.0] * 1000, late_s=0.05), options=options("p99<=3s"))
    assert run.verdict is Verdict.PASS
    assert run.whole.percentile_s(99) == pytest.approx(2.05)
    assert run.whole.percentile_s(99, of="service") == pytest.approx(2.0)


def test_verdict_with_unsent_requests_is_invalid():
    """2 % were given up by the generator."""
    statuses = [Status.UNSENT] * 20 + [Status.OK] * 980
    run = run_of(samples_of([0.01] * 1000, statuses=statuses), options=options())
    assert run.verdict is Verdict.INVALID
    assert "only 98.0% of the scheduled" in run.warnings[0]


def test_verdict_counts_requests_above_the_cap_as_failed():
    """The server did not keep up: failed, not invalid."""
    statuses = [Status.CAPPED] * 20 + [Status.OK] * 980
    run = run_of(samples_of([0.01] * 1000, statuses=statuses), options=options("error_rate<=1%"))
    assert run.verdict is Verdict.FAIL


@pytest.mark.parametrize(("counted", "shared", "verdict"), [
    (1000, False, Verdict.MEASURED), (999, False, Verdict.INVALID), (1001, False, Verdict.INVALID),
    (1001, True, Verdict.MEASURED), (999, True, Verdict.INVALID),
])  # fmt: skip
def test_verdict_needs_client_and_server_to_agree(counted, shared, verdict):
    """To the last image; a shared server may count more."""
    steps = {"resnet50": step_of("resnet50", counted)}
    run = run_of(samples_of([0.01] * 1000), steps=steps, options=options(shared_server=shared))
    assert run.verdict is verdict


def test_verdict_accepts_timed_out_requests_counted_or_not():
    """The server may have answered requests for which the client no longer waited."""
    statuses = [Status.DEADLINE] * 2 + [Status.OK] * 998
    for counted in (998, 999, 1000):
        steps = {"resnet50": step_of("resnet50", counted)}
        assert run_of(samples_of([0.01] * 1000, statuses=statuses), steps=steps).verdict is Verdict.MEASURED


def test_verdict_of_an_empty_run_is_invalid():
    """No request, no verdict."""
    assert run_of(table([])).verdict is Verdict.INVALID


def test_merged_keeps_every_row_of_the_workers():
    """Every row once, ordered by intended time."""
    whole = samples_of([0.01] * 100)
    assert merged([whole[1::2], whole[0::2]]).tolist() == whole.tolist()


def test_memory_growth_leaves_the_warm_up_out():
    """From a fifth of the run to its end; unknown for runs under a minute."""
    generator = measured(range(20), rss_bytes=100) + measured(range(20, 101), rss_bytes=200)
    assert run_of(samples_of([0.01]), generator=generator).memory_growth == 0.0
    assert run_of(samples_of([0.01]), generator=generator[:30]).memory_growth is None
