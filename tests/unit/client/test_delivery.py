"""How requests find a server that answers: the steps themselves, and both clients with transports in memory."""

import asyncio
import collections
import itertools
import threading

import numpy as np
import pytest
from resnet_client import (
    AsyncClient,
    Client,
    ClientConfig,
    ClosedError,
    DeadlineExceededError,
    InvalidImageError,
    ModelNotFoundError,
    OverloadedError,
    ResponseError,
    UnavailableError,
    _async_runner,
    _delivery,
    _retries,
    _runner,
)
from resnet_client._deadline import Deadline
from resnet_client._delivery import Delivery
from resnet_client._requests import Answer, Call
from resnet_client._steps import Part, Pause, Send, Work

THREE = "grpc://a,grpc://b,grpc://c"
GONE = UnavailableError("connection refused")
BROKEN = ResponseError("Stub process is not healthy")
NO_MODEL = ModelNotFoundError("the model has no available versions")
FULL = OverloadedError("queue full")


def delivery(url=THREE, **options):
    """A delivery with these options."""
    return Delivery(ClientConfig.resolve({"url": url, **options}))


def perform(flow, *answers):
    """Perform a flow's steps: requests get these answers, or fail with them; returns result and steps."""
    answers, steps, failure = list(answers), [], None
    try:
        step = next(flow)
        while True:
            steps.append(step)
            failure = answers.pop(0) if isinstance(step, Send) else None
            step = flow.throw(failure) if isinstance(failure, Exception) else flow.send(failure)
    except StopIteration as stop:
        return stop.value, steps


def sent(delivery, *answers):
    """Send one request; returns the result, the hosts asked and how many pauses there were."""
    result, steps = perform(delivery.send(Call("x"), Deadline(10)), *answers)
    return result, [s.endpoint.host for s in steps if isinstance(s, Send)], sum(isinstance(s, Pause) for s in steps)


def test_another_server_is_asked_at_once():
    """Two of three are dead: the third answers, and nobody has waited; the next calls go there directly."""
    three = delivery()
    found, asked, pauses = sent(three, GONE, GONE, "found")
    assert (found, len(set(asked)), pauses) == ("found", 3, 0)
    assert sent(three, "found") == ("found", [asked[2]], 0)


@pytest.mark.parametrize(("url", "first"), [(THREE, 3), ("grpc://a", 1)])
def test_rounds_are_limited_and_have_pauses_between(url, first):
    """With all servers dead, each is asked once, then one after each pause, until `max_attempts`."""
    dead = delivery(url, max_attempts=3)
    flow, steps = dead.send(Call("x"), Deadline(10)), []
    with pytest.raises(UnavailableError):
        _collect(flow, GONE, steps)
    kinds = [type(step) for step in steps]
    assert kinds == [Send] * first + [Pause, Send] * 2
    assert steps[-2].duration_s > 0.05


def _collect(flow, failure, steps):
    step = next(flow)
    while True:
        steps.append(step)
        step = flow.throw(failure) if isinstance(step, Send) else flow.send(None)


def test_a_server_that_fails_inside_is_passed_over_once():
    """One other server may try; a request that topples servers does not get them all."""
    assert sent(delivery(), BROKEN, "found")[0] == "found"
    steps = []
    with pytest.raises(ResponseError):
        _collect(delivery().send(Call("x"), Deadline(10)), BROKEN, steps)
    assert [type(step) for step in steps] == [Send, Send]


def test_a_server_that_always_fails_inside_is_ejected():
    """After three failures nobody is sent there any more, though it can be reached."""
    three = delivery()
    broken, asked = three._fleet.servers[0].endpoint.host, collections.Counter()
    for _ in range(30):
        flow = three.send(Call("x"), Deadline(10))
        step = next(flow)
        while True:
            asked[step.endpoint.host] += 1
            try:
                step = flow.throw(BROKEN) if step.endpoint.host == broken else flow.send("found")
            except StopIteration:
                break
    assert asked[broken] == 3


@pytest.mark.parametrize("error", [DeadlineExceededError("late"), FULL])
def test_other_failures_are_not_repeated(error):
    """What another server would answer likewise, or what is too late, is the caller's at once."""
    with pytest.raises(type(error)):
        sent(delivery(), error)


def test_a_server_without_the_model_is_passed_over():
    """One that starts or stops has none for a moment; what none of them has is said after each was asked once."""
    assert sent(delivery(), NO_MODEL, NO_MODEL, "found")[0] == "found"
    steps = []
    with pytest.raises(ModelNotFoundError):
        _collect(delivery().send(Call("x"), Deadline(10)), NO_MODEL, steps)
    assert [type(step) for step in steps] == [Send] * 3


def test_a_bad_photo_is_a_good_answer():
    """It neither ejects the server nor is it sent elsewhere."""
    three = delivery()
    for _ in range(9):
        with pytest.raises(InvalidImageError):
            sent(three, InvalidImageError("no photo", source=""))
    assert all(server.ejected_s is None and not server.busy for server in three._fleet.servers)


def test_what_is_cancelled_is_counted_out():
    """A flow that is closed leaves no request under way."""
    three = delivery()
    flow = three.send(Call("x"), Deadline(10))
    next(flow)
    assert [server.busy for server in three._fleet.servers].count(1) == 1
    flow.close()
    assert not any(server.busy for server in three._fleet.servers)


@pytest.mark.parametrize("url", ["grpc://a", THREE])
def test_retries_of_overload_add_a_fifth_at_most(url, monkeypatch):
    """However many calls are refused, all sends together are at most 1.2 times the calls."""
    monkeypatch.setattr(_retries, "pause_s", lambda *_: 0.001)
    full, sends = delivery(url, retry_overload=True), 0
    for _ in range(500):
        steps = []
        with pytest.raises(OverloadedError):
            _collect(full.send(Call("x"), Deadline(10)), FULL, steps)
        sends += sum(isinstance(step, Send) for step in steps)
    assert 1.15 * 500 < sends <= 1.2 * 500


def test_the_budget_is_exact_for_every_thread():
    """Threads that earn and spend at once take no more than was earned."""
    budget, taken = _retries.RetryBudget(), []

    def use():
        for _ in range(1000):
            budget.earn()
            taken.append(budget.spend())

    threads = [threading.Thread(target=use) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(taken) == 0.2 * 4000


def test_the_first_requests_may_be_repeated_too():
    """Up to 25 requests there are five retries; whoever makes few calls is not refused them."""
    budget = _retries.RetryBudget()
    budget.earn()
    assert [budget.spend() for _ in range(6)] == [True] * 5 + [False]


def test_care_resolves_probes_and_parts(monkeypatch):
    """A dead server is probed with a photo until it answers; one that is gone is parted from."""
    answers = iter([["10.0.0.1", "10.0.0.2"], ["10.0.0.2"]])
    monkeypatch.setattr(_delivery, "_addresses", lambda _: next(answers, ["10.0.0.2"]))
    named = delivery("dns:///triton")
    now_s = [0.0]
    named._fleet._clock = lambda: now_s[0]
    named._fleet._used_s = 0.0
    care, seen = named.care(), []
    step = next(care)
    while not seen or not isinstance(seen[-1], Part):
        seen.append(step)
        if isinstance(step, Pause):
            now_s[0] += step.duration_s
            if len(named._fleet.servers) == 2:
                dead = named._fleet.servers[1]
                named._fleet.end(dead, named._fleet.begin(dead), _delivery.Verdict.DOWN)
        step = care.send(step.run() if isinstance(step, Work) else None)
    assert seen[-1].endpoint.host == "10.0.0.1"
    probes = [step for step in seen if isinstance(step, Send)]
    assert {step.endpoint.host for step in probes} == {"10.0.0.2"}
    assert {step.request.model for step in probes} == {"resnet50"}
    assert named._fleet.servers[0].ejected_s is None


def test_names_are_resolved_between_probes(monkeypatch):
    """Many silent servers keep nobody from finding new ones in time; those that are gone are not probed any more."""
    addresses = [f"10.0.0.{number}" for number in range(1, 7)]
    monkeypatch.setattr(_delivery, "_addresses", lambda _: addresses)
    named = delivery("dns:///triton")
    now_s, resolved_s, asked = 0.0, [], []
    named._fleet._clock = lambda: now_s
    named._fleet._used_s = 100.0
    care = named.care()
    step = next(care)
    while now_s < 100:
        if isinstance(step, Work):
            resolved_s.append(now_s)
            addresses = addresses if now_s < 50 else ["10.0.0.9"]
            step = care.send(step.run())
            for server in named._fleet.servers if len(resolved_s) == 1 else ():
                named._fleet.end(server, named._fleet.begin(server), _delivery.Verdict.DOWN)
        elif isinstance(step, Send):
            asked.append((now_s, step.endpoint.host))
            now_s += 4.0
            step = care.throw(GONE)
        else:
            now_s += step.duration_s if isinstance(step, Pause) else 0.0
            step = care.send(None)
    assert max(after - before for before, after in itertools.pairwise(resolved_s)) < 5 + 4 + 0.3
    assert {host for _, host in asked} == {f"10.0.0.{number}" for number in range(1, 7)}
    assert max(at_s for at_s, _ in asked) < 50 + 5 + 4


def test_names_that_lead_nowhere_are_said(monkeypatch):
    """The error names the name and the resolver's reason, and comes long before the time-out."""
    with Client("dns:///no-such-host.invalid", timeout_s=20) as client:
        with pytest.raises(UnavailableError, match=r"dns:///no-such-host.invalid:8001 leads to no server"):
            client.classify(b"x")
        assert "leads to no server" in str(client.health().error)


@pytest.fixture
def stubs(monkeypatch):
    """Transports in memory, by host; a host that is in `dead` cannot be reached."""

    class Stub:
        def __init__(self, _, endpoint):
            self.host = endpoint.host

        def send(self, request, _):
            self.asked[self.host] += 1
            if self.host in self.dead:
                raise GONE
            if isinstance(request, Call):
                return {"model_stats": [{"name": "m", "version": "1", "inference_count": 2}]}
            return Answer(np.array([[b"0.5:1:cat"]], dtype=object), request.model, "1")

        def close(self):
            self.closed.add(self.host)

    class AsyncStub(Stub):
        async def send(self, request, _):
            return super().send(request, _)

        async def close(self):
            super().close()

    Stub.dead, Stub.asked, Stub.closed = set(), collections.Counter(), set()
    monkeypatch.setattr(_runner, "connect", Stub)
    monkeypatch.setattr(_async_runner, "connect_async", AsyncStub)
    return Stub


def test_no_call_fails_when_a_server_dies(stubs):
    """Many photos over three servers, one of which dies on the way and comes back: one answer for each."""
    with Client(THREE.split(",")) as client:
        for number, outcome in enumerate(client.classify_many([b"x"] * 600, max_in_flight=8)):
            assert outcome.ok
            stubs.dead = {"b"} if 100 < number < 300 else set()
    assert stubs.closed == {"a", "b", "c"}
    assert min(stubs.asked.values()) > 20


async def test_no_call_fails_when_a_server_dies_with_asyncio(stubs):
    """The same for tasks; the task that looks after the servers ends with the client."""
    async with AsyncClient(THREE) as client:
        number = 0
        async for outcome in client.classify_many([b"x"] * 600, max_in_flight=8):
            number += 1
            assert outcome.ok
            stubs.dead = {"b"} if 100 < number < 300 else set()
    assert min(stubs.asked.values()) > 20
    assert asyncio.all_tasks() == {asyncio.current_task()}


def test_an_ejected_server_is_probed_and_returns(stubs):
    """While calls go on elsewhere, a photo is sent to it until it answers."""
    stubs.dead = {"a"}
    with Client(THREE) as client:
        for _ in range(3):
            client.classify(b"x")
        assert stubs.asked["a"] == 1
        stubs.dead = set()
        settled = threading.Event()
        while stubs.asked["a"] < 5 and not settled.wait(0.01):
            client.classify(b"x")
    assert stubs.asked["a"] >= 5


def test_statistics_are_those_of_all_servers(stubs):
    """Counts are added up over the fleet."""
    with Client(THREE) as client:
        (entry,) = client.statistics()
    assert (entry.model, entry.inference_count) == ("m", 6)


def test_the_thread_that_looks_after_servers_ends_with_the_client(stubs):
    """One server needs none; several have one, until `close`."""
    before = threading.active_count()
    with Client("grpc://a") as client:
        client.classify(b"x")
        assert threading.active_count() == before
    with Client(THREE) as client:
        client.classify(b"x")
        assert threading.active_count() == before + 1
    assert threading.active_count() == before
    with pytest.raises(ClosedError):
        client.classify(b"x")


def test_closing_ends_a_pause(stubs):
    """A call that waits for its next attempt does not hold `close` up, and says why it ended."""
    stubs.dead = {"a"}
    client, errors = Client("grpc://a", max_attempts=1000, timeout_s=60), []

    def call():
        try:
            client.classify(b"x")
        except ClosedError as exc:
            errors.append(exc)

    thread = threading.Thread(target=call)
    thread.start()
    while stubs.asked["a"] < 5:
        threading.Event().wait(0.01)
    client.close()
    thread.join(5)
    assert len(errors) == 1


def test_time_that_ran_out_before_it_was_asked_is_no_servers_fault():
    """Whoever takes too long to prepare a photo has nobody ejected."""
    three = delivery()
    for _ in range(9):
        with pytest.raises(DeadlineExceededError):
            sent_late(three)
    assert all(server.ejected_s is None and not server.busy for server in three._fleet.servers)


def sent_late(delivery):
    """Send a request whose time is up."""
    return perform(delivery.send(Call("x"), Deadline(-1)))
