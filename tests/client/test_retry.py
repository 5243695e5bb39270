"""Retries on one and several servers in memory that fail on request, and the checks of servers in the background."""

import asyncio
import itertools
import subprocess
import sys
import threading
import time

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
    client,
    pool,
    retry,
)

from .conftest import UNREACHABLE

ONE = "grpc://a"
THREE = "grpc://a,grpc://b,grpc://c"
BROKEN = ResponseError("Stub process is not healthy")
NO_MODEL = ModelNotFoundError("the model has no available versions")
OVERLOADED = OverloadedError("queue full")


@pytest.fixture
def pauses(monkeypatch):
    """The pauses between rounds, which take no time here."""
    found, pause_s = [], retry.round_pause_s

    def record(*arguments):
        found.append(pause_s(*arguments))
        return 0.001

    monkeypatch.setattr(retry, "round_pause_s", record)
    return found


def test_retry_repeats_a_request_that_reached_no_server(stub, pauses):
    stub.failures = [UNREACHABLE] * 2
    with Client() as client:
        assert client.classify(b"\x07").top.index == 7
    assert len(stub.sent) == 3


@pytest.mark.parametrize(("retry_overload", "sent"), [(False, 1), (True, 2)])
def test_retry_repeats_overload_only_if_asked(stub, retry_overload, sent):
    stub.failures = [OVERLOADED]
    with Client(retry_overload=retry_overload) as client:
        outcome = next(client.classify_many([b"\x01"]))
    assert (outcome.ok, len(stub.sent)) == (retry_overload, sent)


def test_retry_has_one_deadline_for_all_attempts(stub):
    """Retrying never takes longer than `timeout_s`, and each attempt gets what is left."""
    stub.dead = {"localhost"}
    started_s = time.monotonic()
    with Client(max_attempts=1000, timeout_s=0.3) as client, pytest.raises(UnavailableError):
        client.classify(b"\x07")
    assert time.monotonic() - started_s < 0.5
    allowed_s = [timeout_s for _, timeout_s in stub.sent]
    assert allowed_s == sorted(allowed_s, reverse=True)
    assert len(allowed_s) > 1
    assert allowed_s[0] <= 0.3


def test_retry_logs_but_does_not_print():
    """Without a logging set-up standard error stays empty; a program that has one gets the records."""
    code = """
import logging, resnet_client, sys
from contextlib import suppress
def call():
    with resnet_client.Client("grpc://127.0.0.1:1", max_attempts=2) as client, suppress(resnet_client.UnavailableError):
        client.classify(b"x")
call()
logging.basicConfig(stream=sys.stdout, format="%(levelname)s %(name)s")
call()
"""
    finished = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert (finished.stdout, finished.stderr) == ("WARNING resnet_client\n", "")


def test_retry_asks_another_server_at_once(stub, pauses):
    """Two of three are dead: the third answers without a pause; the next calls go there directly."""
    with Client(THREE) as client:
        stub.failures = [UNREACHABLE] * 2
        assert client.classify(b"\x01").top.index == 1
        assert len(set(stub.order)) == 3
        assert not pauses
        client.classify(b"x")
    assert stub.order[3:] == [stub.order[2]]


@pytest.mark.parametrize(("url", "first"), [(THREE, 3), (ONE, 1)])
def test_retry_limits_rounds_with_pauses_between(stub, pauses, url, first):
    """With all servers dead, each is asked once, then one after each pause, until `max_attempts`."""
    stub.dead = {"a", "b", "c"}
    with Client(url, max_attempts=3) as client, pytest.raises(UnavailableError):
        client.classify(b"x")
    assert len(stub.order) == first + 2
    assert len(set(stub.order[:first])) == first
    assert all(pause_s >= 0.05 for pause_s in pauses)


@pytest.mark.parametrize(
    ("error", "survived", "asked"),
    [
        (BROKEN, 1, 2),  # one other server: a request that ends servers must not reach all of them
        (NO_MODEL, 2, 3),  # each server: one that starts or stops has no models for a moment
        (DeadlineExceededError("late"), 0, 1),
        (OVERLOADED, 0, 1),
    ],
)
def test_retry_asks_as_many_servers_as_the_error_allows(stub, pauses, error, survived, asked):
    """So many failures are survived; when all servers fail, so many are asked, each once."""
    with Client(THREE) as client:
        stub.failures = [error] * survived
        client.classify(b"x")
        stub.order.clear()
        stub.failures = [error] * 9
        with pytest.raises(type(error)):
            client.classify(b"x")
    assert len(stub.order) == len(set(stub.order)) == asked


def test_retry_ejects_a_server_that_always_fails_inside(stub):
    """After three consecutive failures it gets no more requests, though it can be reached."""
    stub.fail = lambda host, _: BROKEN if host == "a" else None
    with Client(THREE) as client:
        for _ in range(30):
            client.classify(b"x")
    assert stub.order.count("a") == 3


@pytest.mark.parametrize(
    ("failures", "timeout_s", "expected", "sent"),
    [
        ([InvalidImageError("not an image", source="")] * 9, 30, InvalidImageError, 9),
        ([], 1e-9, DeadlineExceededError, 0),  # the time is up before a server is asked
    ],
)
def test_retry_does_not_blame_servers_for_their_callers(stub, failures, timeout_s, expected, sent):
    """What is the caller's fault is repeated nowhere, and ejects no server."""
    with Client(THREE) as client:
        stub.failures = failures
        for _ in range(9):
            with pytest.raises(expected):
                client.classify(b"x", timeout_s=timeout_s)
        assert len(stub.order) == sent
        stub.order.clear()
        for _ in range(3):
            client.classify(b"x")
    assert sorted(stub.order) == ["a", "b", "c"]


@pytest.mark.parametrize("url", [ONE, THREE])
def test_retry_of_overload_adds_a_fifth_at_most(stub, pauses, url):
    """However many calls are refused, there are five retries, and one more for five calls."""
    stub.fail = lambda *_: OVERLOADED
    with Client(url, retry_overload=True) as client:
        for _ in range(500):
            with pytest.raises(OverloadedError):
                client.classify(b"x")
    assert 1.15 * 500 < len(stub.order) <= 1.2 * 500 + 5


def test_client_follows_a_name(stub, monkeypatch):
    """A new address is used, and connections to a removed one are closed, while calls go on."""
    found = ["10.0.0.1", "10.0.0.2"]
    monkeypatch.setattr(client, "resolve", lambda _: list(found))
    monkeypatch.setattr(pool, "RESOLVE_INTERVAL_S", 0.05)
    monkeypatch.setattr(pool, "DRAIN_S", 0.05)
    with Client("dns:///triton") as following:
        for _ in range(2):
            following.classify(b"x")
        assert set(stub.order) == {"10.0.0.1", "10.0.0.2"}
        found[:] = ["10.0.0.2", "10.0.0.3"]
        deadline = retry.Deadline(20)
        while deadline.left_s > 0 and not ("10.0.0.1" in stub.closed and "10.0.0.3" in stub.order):
            following.classify(b"x")
    assert deadline.left_s > 0


async def test_client_loses_no_image_of_a_server_that_dies(stub):
    """Many images over three servers, one of which dies on the way and comes back: one result for each.

    The task that checks the servers ends with the client.
    """

    def check(number, outcome):
        assert outcome.ok
        stub.dead = {"b"} if 100 < number < 300 else set()

    with Client(THREE.split(",")) as client:
        for number, outcome in enumerate(client.classify_many([b"x"] * 600, max_in_flight=8)):
            check(number, outcome)
    assert min(map(stub.order.count, "abc")) > 20
    stub.order.clear()
    async with AsyncClient(THREE) as client:
        numbers = itertools.count()
        async for outcome in client.classify_many([b"x"] * 600, max_in_flight=8):
            check(next(numbers), outcome)
    assert stub.closed == {"a", "b", "c"}
    assert min(map(stub.order.count, "abc")) > 20
    assert asyncio.all_tasks() == {asyncio.current_task()}


def test_client_probes_an_ejected_server_until_it_answers(stub, monkeypatch):
    """While calls go on elsewhere, an image is sent to it."""
    monkeypatch.setattr(pool, "FIRST_EJECTION_S", 0.1)
    stub.dead = {"a"}
    with Client(THREE) as client:
        for _ in range(3):
            client.classify(b"x")
        assert stub.order.count("a") == 1
        stub.dead = set()
        deadline = retry.Deadline(20)
        while stub.order.count("a") < 5 and deadline.left_s > 0:
            client.classify(b"x")
    assert stub.order.count("a") >= 5


def test_client_ends_its_checks_when_it_is_closed(stub):
    """One server needs no thread; several have one, until `close`."""
    before = threading.active_count()
    with Client(ONE) as client:
        client.classify(b"x")
        assert threading.active_count() == before
    with Client(THREE) as client:
        client.classify(b"x")
        assert threading.active_count() == before + 1
    assert threading.active_count() == before
    with pytest.raises(ClosedError):
        client.classify(b"x")


def test_client_ends_a_pause_when_it_is_closed(stub, monkeypatch):
    """A call that waits for its next attempt does not delay `close`, and its error names the reason."""
    monkeypatch.setattr(retry, "round_pause_s", lambda *_: 30.0)
    stub.dead = {"a"}
    client, errors = Client(ONE, timeout_s=60), []

    def call():
        try:
            client.classify(b"x")
        except ClosedError as exc:
            errors.append(exc)

    thread = threading.Thread(target=call)
    thread.start()
    while not stub.answered:
        time.sleep(0.001)
    client.close()
    thread.join(5)
    assert len(errors) == 1
