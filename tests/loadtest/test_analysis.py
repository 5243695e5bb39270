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


def run(count=1000, *, slo="", first=(), late_s=0.0, duration_s=0.01, **more):
    """Requests of 10 ms each; the first have another status."""
    statuses = [*first, *[Status.OK] * (count - len(first))]
    samples = samples_of([duration_s] * count, statuses=statuses, late_s=late_s)
    made = {name: more.pop(name) for name in ("generator", "steps") if name in more}
    return run_of(samples, options=options(slo, **more), **made)


@pytest.mark.parametrize(
    ("verdict", "arguments"),
    [
        (Verdict.PASS, {"slo": "p99<=11ms,throughput>=90/s"}),
        (Verdict.FAIL, {"slo": "p99<=9ms"}),
        (Verdict.MEASURED, {}),
        (Verdict.PASS, {"slo": "p99<=1s", "profile": "steps"}),
        # The server did not keep up: failed, but valid.
        (Verdict.FAIL, {"slo": "error_rate<=1%", "first": [Status.CAPPED] * 20}),
        # Lateness that hardly shows: 50 ms on responses of 2 s, and counted in them.
        (Verdict.PASS, {"slo": "p99<=2.06s,service_p99<=2.01s", "duration_s": 2.0, "late_s": 0.05}),
    ],
)
def test_verdict_of_a_valid_run_follows_from_the_objectives(verdict, arguments):
    """1000 responses of 10 ms each, unless others are given."""
    assert run(**arguments).verdict is verdict


@pytest.mark.parametrize(
    ("warning", "arguments"),
    [
        ("needs 299 requests", {"count": 200, "slo": "p99<=1s"}),
        ("step 20 %: p99<=1s needs 299 requests", {"slo": "p99<=1s", "profile": "steps", "slo_per": "stage"}),
        ("95% of its CPU core", {"generator": measured(range(10), cpu=0.95)}),
        ("sent late", {"late_s": 0.05}),
        ("only 98.0% of the scheduled", {"first": [Status.UNSENT] * 20}),
    ],
)
def test_verdict_is_invalid_with_a_warning(warning, arguments):
    """Too few requests for a percentile, in the run or a stage; a generator that is busy, late or gives up."""
    found = run(**arguments)
    assert found.verdict is Verdict.INVALID
    assert warning in found.warnings[0]
    assert found.bottleneck.startswith("The load generator, not the server") == bool(found.generator_warnings)


def test_verdict_of_an_empty_run_is_invalid():
    """No request, no verdict."""
    assert run_of(table([])).verdict is Verdict.INVALID


@pytest.mark.parametrize(
    ("counted", "unanswered", "shared", "verdict"),
    [
        (1000, 0, False, Verdict.MEASURED),
        (999, 0, False, Verdict.INVALID),
        (1001, 0, False, Verdict.INVALID),
        (1001, 0, True, Verdict.MEASURED),
        (999, 0, True, Verdict.INVALID),
        # The server may have answered requests for which the client no longer waited.
        (998, 2, False, Verdict.MEASURED),
        (1000, 2, False, Verdict.MEASURED),
        (1001, 2, False, Verdict.INVALID),
    ],
)
def test_verdict_needs_client_and_server_to_agree(counted, unanswered, shared, verdict):
    """To the last image; a shared server may count more."""
    steps = {"resnet50": step_of("resnet50", counted)}
    assert run(first=[Status.DEADLINE] * unanswered, steps=steps, shared_server=shared).verdict is verdict


def test_bottleneck_is_that_of_the_stage_with_the_highest_load():
    """Four easy steps do not hide that the fifth is more than the server can do."""
    steps = run(profile="steps")
    full = {"network_onnx": step_of("network_onnx", 200, queue_s=0.008, compute_s=0.01)}
    easy = {"network_onnx": step_of("network_onnx", 200, compute_s=0.008)}
    server = dataclasses.replace(steps.server, stage_steps=(easy, easy, easy, easy, full))
    message = dataclasses.replace(steps, server=server).bottleneck
    assert message.startswith("Compute: requests wait for network_onnx for 80%")
    assert message.endswith("Measured at step 100 %.")


def test_merged_keeps_every_row_of_the_workers():
    """Each once, ordered by intended time."""
    whole = samples_of([0.01] * 100)
    assert merged([whole[1::2], whole[0::2]]).tolist() == whole.tolist()


def test_memory_growth_leaves_the_warm_up_out():
    """From a fifth of the run to its end; unknown for runs under a minute."""
    generator = measured(range(20), rss_bytes=100) + measured(range(20, 101), rss_bytes=200)
    assert run_of(samples_of([0.01]), generator=generator).memory_growth == 0.0
    assert run_of(samples_of([0.01]), generator=generator[:30]).memory_growth is None
