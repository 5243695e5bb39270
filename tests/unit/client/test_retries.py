"""Retries over several servers: both clients, with transports in memory that fail as told."""

import asyncio
import collections
import threading

import numpy as np
import pytest
from resnet_client import (
    AsyncClient,
    Client,
    ClosedError,
    DeadlineExceededError,
    InvalidImageError,
    ModelNotFoundError,
    OverloadedError,
    ResponseError,
    UnavailableError,
    async_client,
    pool,
    retry,
)
from resnet_client import client as client_module
from resnet_client.requests import Call
from resnet_client.responses import Answer

THREE = "grpc://a,grpc://b,grpc://c"
GONE = UnavailableError("connection refused")
BROKEN = ResponseError("Stub process is not healthy")
NO_MODEL = ModelNotFoundError("the model has no available versions")
FULL = OverloadedError("queue full")


@pytest.fixture
def stubs(monkeypatch):
    """Transports in memory, by host; a host that is in `dead` cannot be reached."""

    class Stub:
        def __init__(self, _, endpoint):
            self.host = endpoint.host

        def send(self, request, timeout_s):  # noqa: ARG002  # as of a transport
            self.asked[self.host] += 1
            self.order.append(self.host)
            if self.host in self.dead:
                raise GONE
            if (failure := self.failures(self.host)) is not None:
                raise failure
            if isinstance(request, Call):
                return {"model_stats": [{"name": "m", "version": "1", "inference_count": 2}]}
            return Answer(np.array([[b"0.5:1:cat"]], dtype=object), request.model, "1")

        def close(self):
            self.closed.add(self.host)

    class AsyncStub(Stub):
        async def send(self, request, timeout_s):
            return super().send(request, timeout_s)

        async def close(self):
            super().close()

    Stub.dead, Stub.asked, Stub.closed, Stub.order = set(), collections.Counter(), set(), []
    Stub.failures = staticmethod(lambda _: None)
    monkeypatch.setattr(client_module, "connect", Stub)
    monkeypatch.setattr(async_client, "connect_async", AsyncStub)
    return Stub


@pytest.fixture
def pauses(monkeypatch):
    """The pauses between rounds, which take no time here."""
    found, pause_s = [], retry.round_pause_s

    def record(*arguments):
        found.append(pause_s(*arguments))
        return 0.001

    monkeypatch.setattr(retry, "round_pause_s", record)
    return found


def failing_first(count, error):
    """Fail so many requests."""
    errors = [error] * count
    return staticmethod(lambda _: errors.pop() if errors else None)


def test_client_asks_another_server_at_once(stubs, pauses):
    """Two of three are dead: the third answers without a pause; the next calls go there directly."""
    with Client(THREE) as client:
        stubs.failures = failing_first(2, GONE)
        assert client.classify(b"x").top.label == "cat"
        assert len(set(stubs.order)) == 3
        stubs.order.clear()
        client.classify(b"x")
    assert len(stubs.order) == 1
    assert stubs.asked[stubs.order[0]] == 2


@pytest.mark.parametrize(("url", "first"), [(THREE, 3), ("grpc://a", 1)])
def test_client_limits_rounds_with_pauses_between(stubs, pauses, url, first):
    """With all servers dead, each is asked once, then one after each pause, until `max_attempts`."""
    stubs.dead = {"a", "b", "c"}
    with Client(url, max_attempts=3) as client, pytest.raises(UnavailableError):
        client.classify(b"x")
    assert len(stubs.order) == first + 2
    assert len(set(stubs.order[:first])) == first
    assert all(pause_s >= 0.05 for pause_s in pauses)


def test_client_asks_one_other_server_after_a_failure_inside(stubs, pauses):
    """A request that ends servers does not reach all of them."""
    stubs.failures = failing_first(1, BROKEN)
    with Client(THREE) as client:
        client.classify(b"x")
        stubs.order.clear()
        stubs.failures = failing_first(9, BROKEN)
        with pytest.raises(ResponseError):
            client.classify(b"x")
    assert len(stubs.order) == 2


def test_client_ejects_a_server_that_always_fails_inside(stubs):
    """After three consecutive failures it gets no more requests, though it can be reached."""
    stubs.failures = staticmethod(lambda host: BROKEN if host == "a" else None)
    with Client(THREE) as client:
        for _ in range(30):
            client.classify(b"x")
    assert stubs.asked["a"] == 3


@pytest.mark.parametrize("error", [DeadlineExceededError("late"), FULL])
def test_client_does_not_repeat_other_failures(stubs, error):
    """Overload, unless asked for, and a deadline that has passed are errors at once."""
    stubs.failures = failing_first(9, error)
    with Client(THREE) as client, pytest.raises(type(error)):
        client.classify(b"x")
    assert len(stubs.order) == 1


def test_client_passes_over_a_server_without_the_model(stubs):
    """A server that starts or stops has none for a moment; a model that no server has is an error after one round."""
    stubs.failures = failing_first(2, NO_MODEL)
    with Client(THREE) as client:
        client.classify(b"x")
        stubs.order.clear()
        stubs.failures = failing_first(9, NO_MODEL)
        with pytest.raises(ModelNotFoundError):
            client.classify(b"x")
    assert sorted(stubs.order) == ["a", "b", "c"]


def test_client_counts_an_invalid_image_as_an_answer(stubs):
    """It neither ejects the server nor is it sent elsewhere."""
    stubs.failures = failing_first(9, InvalidImageError("not an image", source=""))
    with Client(THREE) as client:
        for _ in range(9):
            with pytest.raises(InvalidImageError):
                client.classify(b"x")
        stubs.order.clear()
        for _ in range(3):
            client.classify(b"x")
    assert sorted(stubs.order) == ["a", "b", "c"]


@pytest.mark.parametrize("url", ["grpc://a", THREE])
def test_client_retries_of_overload_add_a_fifth_at_most(stubs, pauses, url):
    """However many calls are refused, all sends together are at most 1.2 times the calls."""
    stubs.failures = staticmethod(lambda _: FULL)
    with Client(url, retry_overload=True) as client:
        for _ in range(500):
            with pytest.raises(OverloadedError):
                client.classify(b"x")
    assert 1.15 * 500 < len(stubs.order) <= 1.2 * 500


def test_retry_budget_is_exact_for_every_thread():
    """Threads that earn and spend at once take no more than was earned."""
    budget, taken = retry.RetryBudget(), []

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


def test_retry_budget_has_a_reserve():
    """Up to 25 requests there are five retries, so that a client that makes few calls has some."""
    budget = retry.RetryBudget()
    budget.earn()
    assert [budget.spend() for _ in range(6)] == [True] * 5 + [False]


def test_client_does_not_blame_a_server_for_time_lost_before(stubs):
    """A call whose time is up before a server is asked ejects none."""
    with Client(THREE) as client:
        for _ in range(9):
            with pytest.raises(DeadlineExceededError):
                client.classify(b"x", timeout_s=1e-9)
        for _ in range(3):
            client.classify(b"x")
    assert sorted(stubs.order) == ["a", "b", "c"]


def addresses(monkeypatch, found):
    """Have names resolve to what the list holds at that moment."""
    monkeypatch.setattr(client_module, "resolve", lambda _: list(found))


def test_client_follows_a_name(stubs, monkeypatch):
    """A new address is used, and connections to a removed one are closed, while calls go on."""
    found = ["10.0.0.1", "10.0.0.2"]
    addresses(monkeypatch, found)
    monkeypatch.setattr(pool, "RESOLVE_INTERVAL_S", 0.05)
    monkeypatch.setattr(pool, "DRAIN_S", 0.05)
    with Client("dns:///triton") as client:
        for _ in range(2):
            client.classify(b"x")
        assert set(stubs.order) == {"10.0.0.1", "10.0.0.2"}
        found[:] = ["10.0.0.2", "10.0.0.3"]
        deadline = retry.Deadline(20)
        while deadline.left_s > 0 and not ("10.0.0.1" in stubs.closed and "10.0.0.3" in stubs.order):
            client.classify(b"x")
    assert deadline.left_s > 0


def test_client_resolves_names_between_probes(stubs, monkeypatch):
    """After a name has changed, at most one silent server more is probed before the new one is known."""
    old = [f"10.0.0.{number}" for number in range(1, 7)]
    found, probed_after = list(old), []
    addresses(monkeypatch, found)
    for name in ("RESOLVE_INTERVAL_S", "SHORTEST_RESOLVE_INTERVAL_S", "FIRST_EJECTION_S", "LONGEST_EJECTION_S"):
        monkeypatch.setattr(pool, name, 0.0)

    def fail(host):
        if threading.current_thread().name == "resnet-client-checks":
            found[:] = ["10.0.0.9"]  # while the first probe is in flight
            probed_after.append(host)
        return GONE if host in old else None

    stubs.failures = staticmethod(fail)
    with Client("dns:///triton", max_attempts=1000) as client:
        assert client.classify(b"x").top.label == "cat"
    assert len([host for host in probed_after if host in old]) <= 2


def test_client_names_a_name_without_address(monkeypatch):
    """The error has the name and the resolver's reason, and comes long before the deadline."""
    with Client("dns:///no-such-host.invalid", timeout_s=20) as client:
        with pytest.raises(UnavailableError, match=r"dns:///no-such-host.invalid:8001 has no address"):
            client.classify(b"x")
        assert "has no address" in str(client.health().error)


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
