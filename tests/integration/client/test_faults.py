"""Servers that are missing or silent: bounded waiting, our errors, no threads or sockets left."""

import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor, wait

import pytest
from resnet_client import (
    Client,
    DeadlineExceededError,
    OverloadedError,
    ResnetClientError,
    ServerError,
    UnavailableError,
)
from resnet_client import client as client_module
from resnet_client.endpoints import Endpoint

from .conftest import settled
from .misbehaviour import SLOW, WRONG, misbehaving, silent

TIMEOUT_S = 0.4
CALLS = {
    "classify": lambda client: client.classify(b"x"),
    "embed": lambda client: client.embed(b"x"),
    "health": lambda client: client.health(),
    "is_ready": lambda client: client.is_ready(),
    "metadata": lambda client: client.metadata(),
    "statistics": lambda client: client.statistics(),
    "wait_until_ready": lambda client: client.wait_until_ready(TIMEOUT_S),
}


def check_bounded(client, *, is_slow):
    """Every method ends in time: with an error of ours, or with a finding."""
    for name, (found, took_s) in zip(CALLS, client.together(list(CALLS.values())), strict=True):
        assert took_s < TIMEOUT_S + 2, name
        if name == "is_ready":
            assert found is False
        else:
            error = found.error if name == "health" else found
            assert isinstance(error, DeadlineExceededError if is_slow else ServerError), name


@pytest.mark.parametrize("behaviour", [*SLOW, *WRONG])
def test_no_server_can_hold_a_call(connect, behaviour):
    """Whatever a server does, each method ends when its time is up; a run gives each photo its outcome."""
    with misbehaving(behaviour) as port:
        client = connect(port, timeout_s=TIMEOUT_S)
        check_bounded(client, is_slow=behaviour is silent)
        started_s = time.monotonic()
        assert [outcome.ok for outcome in client.many([b"x"] * 4, max_in_flight=4)] == [False] * 4
        assert time.monotonic() - started_s < TIMEOUT_S + 2


def test_unreachable_is_said_quickly(connect, free_port):
    """Where nobody listens, the error names the URL and comes long before the time-out."""
    client = connect(free_port, timeout_s=20)
    started_s = time.monotonic()
    with pytest.raises(UnavailableError, match=str(free_port)):
        client.classify(b"x")
    assert time.monotonic() - started_s < 5


def test_waiting_for_readiness_is_bounded(connect, free_port, silent_port):
    """Waiting ends in time with the reason."""
    for port, reason in ((free_port, "cannot be reached"), (silent_port, "no answer")):
        started_s = time.monotonic()
        with pytest.raises(DeadlineExceededError, match=reason):
            connect(port).wait_until_ready(0.8)
        assert time.monotonic() - started_s < 2


def test_health_of_a_missing_server_is_a_finding(connect, free_port):
    """`health` and `is_ready` report what is wrong instead of raising."""
    client = connect(free_port)
    health = client.health()
    assert not health.ok
    assert not health.server_live
    assert isinstance(health.error, UnavailableError)
    assert not client.is_ready()


@pytest.fixture
def slow_names(monkeypatch):
    """Name services of every kind that do not answer for as long as the test lasts."""
    stopped = threading.Event()

    def wait(*_, flags=0, **__):
        stopped.wait(0 if flags & socket.AI_NUMERICHOST else 30)
        raise OSError("stopped")

    monkeypatch.setattr(client_module, "resolve", lambda _: stopped.wait(30) and OSError("stopped"))
    monkeypatch.setattr(socket, "getaddrinfo", wait)  # for HTTP asked in a thread
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as mute:  # gRPC has a resolver of its own
        mute.bind(("127.0.0.1", 0))
        at = f"dns://127.0.0.1:{mute.getsockname()[1]}/triton.example:8001"
        monkeypatch.setattr(Endpoint, "target", property(lambda self: at if self.is_grpc else "triton.example:8000"))
        yield
    stopped.set()


@pytest.mark.parametrize("url", ["{protocol}://triton.example:{port}", "{protocol}+dns:///triton.example:{port}"])
def test_no_name_service_can_hold_a_call(connect, slow_names, url):
    """A name that is not resolved costs each method its time and no more."""
    check_bounded(connect(8001, url, timeout_s=TIMEOUT_S), is_slow=True)


def test_what_nobody_would_wait_for_is_not_begun(connect, server, photos):
    """Calls with a short time-out, while many others wait, are refused by the server and never computed."""
    client, photo = connect(server), photos["cat"].read_bytes()
    hurried = [lambda client: client.classify(photo, timeout_s=0.1)] * 16
    with Client(server.grpc_url) as others, ThreadPoolExecutor(24) as pool:
        before, _ = settled(others)
        answers = [pool.submit(others.classify, photo) for _ in range(80)]
        wait(answers[:30])  # by now the server knows how long it takes
        assert all(isinstance(error, DeadlineExceededError | OverloadedError) for error, _ in client.together(hurried))
        answered = sum(answer.exception() is None for answer in answers)
        assert answered > 40
        assert settled(others)[0] - before < answered + len(hurried) // 2


def test_time_outs_too_short_for_the_server(connect, server, photos):
    """A few milliseconds are too little; the client works on afterwards."""
    client = connect(server)
    with pytest.raises((DeadlineExceededError, OverloadedError)):
        client.classify(photos["cat"], timeout_s=0.003)
    assert client.classify(photos["cat"]).predictions


def test_something_else_at_the_port(connect, server):
    """Speaking to a port of the other protocol fails with an error of ours."""
    for url in (server.grpc_url, server.http_url):
        client = connect(int(url.rsplit(":", 1)[1]), timeout_s=2, max_attempts=1)
        if client.options.url != url:
            with pytest.raises(ResnetClientError) as caught:
                client.metadata()
            assert str(caught.value).isprintable()
            assert client.options.url.startswith("grpc:") or "as if this were a port of gRPC" in str(caught.value)
