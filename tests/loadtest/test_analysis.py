"""From samples to a verdict."""

import pytest
from resnet_loadtest.analysis import Verdict
from resnet_loadtest.options import Options
from resnet_loadtest.samples import Status
from resnet_loadtest.server_metrics import Reading

from .conftest import measured, run_of, samples_of, step_of


def options(slo="", **more):
    """Open loop, 100 per second for 10 s."""
    return Options(rate=100.0, duration_s=10.0, slo=slo, **more)


def run(count=1000, *, slo="", first=(), late_s=0.0, duration_s=0.01, **more):
    """Requests of 10 ms each; the first have another status."""
    statuses = [*first, *[Status.OK] * (count - len(first))]
    samples = samples_of([duration_s] * count, statuses=statuses, late_s=late_s)
    made = {name: more.pop(name) for name in ("generator", "steps", "stage_steps", "readings") if name in more}
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
        # The error rate is known to be too high, although there are too few requests for p99.
        (Verdict.FAIL, {"count": 119, "slo": "p99<=1s,error_rate<=1%", "first": [Status.OVERLOADED] * 20}),
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
        (
            "undecided: whole run: p99<=1s (measured 10.0 ms; needs 299 requests, but there were 200; ",
            {"count": 200, "slo": "p99<=1s"},
        ),
        ("undecided: step 20 %: p99<=1s (", {"slo": "p99<=1s", "profile": "steps", "slo_per": "stage"}),
        ("whole run: the generator used 95% of its CPU core", {"generator": measured(range(10), cpu=0.95)}),
        ("whole run: requests were sent late", {"late_s": 0.05}),
        ("whole run: only 98.0% of the scheduled requests were sent", {"first": [Status.UNSENT] * 20}),
        ("whole run: no request was scheduled", {"count": 0}),
    ],
)
def test_verdict_is_invalid_with_a_warning(warning, arguments):
    """Too few requests for a percentile, in the run or a stage; a generator that is busy, late or gives up."""
    found = run(**arguments)
    assert found.verdict is Verdict.INVALID
    assert found.warnings[0].startswith(warning)


@pytest.mark.parametrize(
    ("arguments", "cpu", "message"),
    [
        ({"late_s": 0.05}, 0.5, "The load generator, not the server: requests were sent late"),
        ({"generator": measured(range(10), cpu=0.95)}, 1.0, "The load generator, not the server: the generator used"),
        # It was late because something else used the CPU.
        ({"late_s": 0.05}, 0.97, "CPU: the server's machine is 97% busy, although resnet50 is busy 40%"),
    ],
)
def test_bottleneck_agrees_with_the_cpu_of_server_and_generator(arguments, cpu, message):
    """The model is busy 40 % of the time: it is not what limits."""
    readings = tuple(Reading(second + 0.5, {"nv_cpu_utilization": cpu}) for second in range(10))
    steps = {"resnet50": step_of("resnet50", 1000, compute_s=0.004)}
    assert run(steps=steps, readings=readings, **arguments).bottleneck.startswith(message)


def test_one_late_request_of_a_stage_does_not_spoil_the_run():
    """Two of 119 are late in the first stage, 29 % fail in the last: the run fails, because of the server."""
    samples = samples_of([0.01] * 595, spacing_s=10 / 595)
    samples["sent_s"][5:7] += 0.05
    samples["done_s"][5:7] += 0.05
    samples["status"][-35:] = Status.OVERLOADED
    steps = {"resnet50": step_of("resnet50", 560)}
    found = run_of(samples, options=options("error_rate<=1%", profile="steps"), steps=steps)
    assert found.warnings == []
    assert found.verdict is Verdict.FAIL
    assert "generator" not in found.bottleneck


def test_verdict_of_a_stage_is_its_own():
    """The generator was busy in the second of five stages only; the others stay valid, and the last one fails."""
    generator = [*measured([0, 1]), *measured([2, 3, 4], cpu=0.99), *measured(range(5, 10))]
    statuses = [Status.OK] * 950 + [Status.OVERLOADED] * 50
    samples = samples_of([0.01] * 1000, statuses=statuses)
    several = options("error_rate<=1%", profile="steps", slo_per="stage")
    found = run_of(samples, options=several, generator=generator)
    verdicts = [found.verdict_of(part) for part in found.parts]
    assert verdicts == [Verdict.PASS, Verdict.INVALID, Verdict.PASS, Verdict.PASS, Verdict.FAIL]
    assert found.verdict is Verdict.FAIL


@pytest.mark.parametrize(("failed", "stage"), [(0, "step 100 %"), (50, "step 80 %"), (1000, "whole run")])
def test_headline_is_the_highest_stage_that_the_server_keeps_up_with(failed, stage):
    """The last of 1000 requests fail: all in the last of five stages, or in all stages."""
    statuses = [Status.OK] * (1000 - failed) + [Status.OVERLOADED] * failed
    found = run_of(samples_of([0.01] * 1000, statuses=statuses), options=options(profile="steps"))
    assert found.headline.name == stage


def test_meaning_mentions_that_many_requests_failed():
    """Without an objective, a run is valid whatever fails."""
    found = run(first=[Status.INVALID_IMAGE] * 300)
    assert found.verdict is Verdict.MEASURED
    assert found.meaning == "valid; no objective was given, but 30% of the requests failed"


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
    full = {"network_onnx": step_of("network_onnx", 200, queue_s=0.008, compute_s=0.01)}
    easy = {"network_onnx": step_of("network_onnx", 200, compute_s=0.008)}
    message = run(profile="steps", stage_steps=(easy, easy, easy, easy, full)).bottleneck
    assert message.startswith("Compute: requests wait for network_onnx for 80%")
    assert message.endswith("Measured at step 100 %.")
