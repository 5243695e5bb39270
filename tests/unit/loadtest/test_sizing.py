"""The planner against queues that are simulated request by request, and its command against made-up reports."""

import functools
import json
import math

import numpy as np
import pytest
from resnet_loadtest.__main__ import main
from resnet_loadtest.errors import LoadTestError, UsageError
from resnet_loadtest.options import Options
from resnet_loadtest.report import document
from resnet_loadtest.sizing import model
from resnet_loadtest.sizing.curve import Curve, Point
from resnet_loadtest.sizing.plan import Demand, make

from .conftest import samples_of

BASE_S = 0.004
SERVICE_S = 0.01
REQUESTS = 100_000
LOADS = (0.2, 0.4, 0.6, 0.8, 0.9)


def exponential(random, count):
    """Service times that vary as much as their mean."""
    return random.exponential(SERVICE_S, count)


def constant(_, count):
    """Service times that do not vary."""
    return np.full(count, SERVICE_S)


def even(random, count):
    """Service times from a half to three halves."""
    return random.uniform(0.5, 1.5, count) * SERVICE_S


def simulate(random, service, load, servers=1, *, in_turn=False):
    """Response times of Poisson arrivals over servers with a queue each, one request after the other."""
    arrivals_s = np.cumsum(random.exponential(SERVICE_S / load / servers, REQUESTS))
    taken = np.arange(REQUESTS) % servers if in_turn else random.integers(servers, size=REQUESTS)
    times_s = service(random, REQUESTS)
    free_s = [0.0] * servers
    response_s = np.empty(REQUESTS)
    for number, (arrival_s, server, time_s) in enumerate(zip(arrivals_s, taken, times_s, strict=True)):
        free_s[server] = max(arrival_s, free_s[server]) + time_s
        response_s[number] = free_s[server] - arrival_s + BASE_S
    return response_s


@functools.cache
def fitted(service):
    """What the planner makes of the curve of one such server."""
    random = np.random.default_rng(7)
    found = {load: np.percentile(simulate(random, service, load), [99, 50, 90]) for load in LOADS}
    points = tuple(Point(load / SERVICE_S, p99, (p50, p90)) for load, (p99, p50, p90) in found.items())
    return model.fit(Curve(points, 0.9 / SERVICE_S), 0.99)


@pytest.fixture(params=[exponential, constant, even])
def service(request):
    """One way to serve."""
    return request.param


@pytest.fixture
def queue(service):
    """The planner's idea of such a server."""
    return fitted(service)


@pytest.mark.parametrize("in_turn", [False, True])
@pytest.mark.parametrize("servers", [2, 3])
def test_predictions_for_several_servers_are_within_15_percent(random, service, queue, servers, in_turn):
    """Of what a simulation of those servers gives, whatever the service times and however requests are dealt."""
    for load in (0.5, 0.8):
        measured_s = np.percentile(simulate(random, service, load, servers, in_turn=in_turn), 99)
        predicted_s = queue.latency_s(servers * load / SERVICE_S, servers, in_turn=in_turn)
        assert abs(predicted_s / measured_s - 1) < 0.15, load


def test_the_fit_finds_the_capacity(queue):
    """Within a tenth, although no stage was at its limit."""
    assert abs(queue.capacity * SERVICE_S - 1) < 0.1
    assert queue.error < 0.1


def test_too_much_takes_for_ever(queue):
    """Above the capacity there is no time to predict."""
    assert math.isinf(queue.latency_s(2 * queue.capacity))


@pytest.fixture
def report(make_run, random, tmp_path):
    """The report of one server, with steps up to 90 % of its capacity."""

    def write(arrivals="poisson", rate=90.0, photos=1):
        duration_s = 5 * 60
        intended = np.sort(np.concatenate([i * 60 + random.uniform(0, 60, 18 * 60 * (i + 1)) for i in range(5)]))
        free_s, rows = 0.0, []
        for arrival_s in intended:
            free_s = max(arrival_s, free_s) + SERVICE_S
            rows.append(free_s - arrival_s + BASE_S)
        samples = samples_of(rows)
        samples["done_s"] += intended - samples["intended_s"]
        samples["sent_s"] = samples["intended_s"] = intended
        samples["answered"] *= photos
        options = Options(rate=rate, profile="steps", duration_s=duration_s, arrivals=arrivals)
        document.write(make_run(samples, options=options, duration_s=duration_s), tmp_path / "report.json")
        return tmp_path / "report.json"

    return write


def test_a_plan_from_a_report(report, tmp_path, capsys):
    """Servers, load, GPUs and money; the page and the JSON say the same."""
    options = ["plan", "--rate", "1000/s", "--slo", "p99<=50ms", "--from", str(report()), "--spare", "2"]
    costs = ["--gpus-per-server", "2", "--cost-per-hour", "3"]
    assert main([*options, *costs, "--out", str(tmp_path / "plan.json")]) == 0
    plan = json.loads((tmp_path / "plan.json").read_text())
    assert 18 <= plan["needed"] <= 23  # M/D/1 with 100/s has 50 ms at about half of it
    assert plan["servers"] == plan["needed"] + 2
    assert plan["gpus"] == 2 * plan["servers"]
    assert plan["cost_per_month"] == pytest.approx(3 * 730 * plan["servers"])
    assert plan["predicted_s"] <= 0.05
    assert f"servers: {plan['servers']}" in capsys.readouterr().out
    assert main([*options, "--out", str(tmp_path / "plan.html")]) == 0
    assert "The fleet" in (tmp_path / "plan.html").read_text()


def test_one_server_fewer_does_not_do(report):
    """The answer is the smallest that meets the objective."""
    run = document.read(report())
    for rate in (10.0, 170.0, 5000.0):
        plan = make(run, Demand(rate, "p99<=50ms"))
        assert plan.latency_s(plan.needed) <= 0.05
        assert plan.needed == 1 or plan.latency_s(plan.needed - 1) > 0.05


def test_dealing_in_turn_takes_no_more_servers(report):
    """Smoother arrivals wait less."""
    run = document.read(report())
    at_random, in_turn = (make(run, Demand(5000.0, "p99<=40ms", in_turn=turn)).needed for turn in (False, True))
    assert in_turn <= at_random


def test_what_no_number_of_servers_can_do(report):
    """An idle server is already slower."""
    with pytest.raises(LoadTestError, match="out of reach"):
        make(document.read(report()), Demand(10.0, "p99<=5ms"))


@pytest.mark.parametrize("slo", ["throughput>=5/s", "p99<=50ms,p50<=20ms", "p99<50", ""])
def test_objectives_that_are_none_for_a_plan(report, slo):
    """One about time, or a sentence that says so."""
    with pytest.raises(UsageError, match=r"--slo|one objective about time"):
        make(document.read(report()), Demand(10.0, slo))


def test_reports_that_prove_nothing(report):
    """Constant arrivals hide the queue; a percentile needs enough requests."""
    with pytest.raises(UsageError, match="Poisson"):
        make(document.read(report(arrivals="constant")), Demand(10.0, "p99<=50ms"))
    with pytest.raises(UsageError, match="for longer"):
        make(document.read(report()), Demand(10.0, "p99.99<=50ms"))


def test_photos_of_one_request_are_one_request(report):
    """The rate that a plan is asked for is one of requests."""
    demand = Demand(1000.0, "p99<=50ms")
    single, eight = (make(document.read(report(photos=photos)), demand) for photos in (1, 8))
    assert eight.queue.capacity == pytest.approx(single.queue.capacity, rel=0.1)
    assert abs(eight.needed - single.needed) <= 1
