"""Servers that are missing, silent or wrong: bounded waiting, and errors of the client's own."""

import socket
import threading
import time

import pytest
from resnet_client import (
    AsyncClient,
    DeadlineExceededError,
    OverloadedError,
    ServerError,
    UnavailableError,
)
from resnet_client import client as client_module
from resnet_client.endpoints import Endpoint

from .clients import collect
from .misbehaviour import SLOW, WRONG, misbehaving, silent

TIMEOUT_S = 0.1


def run(client):
    """Classify many images by a client of any kind."""
    outcomes = client.classify_many([b"x"] * 4, max_in_flight=4)
    return collect(outcomes) if isinstance(client, AsyncClient) else list(outcomes)


CALLS = {
    "classify": lambda client: client.classify(b"x"),
    "classify_many": run,
    "embed": lambda client: client.embed(b"x"),
    "health": lambda client: client.health(),
    "is_ready": lambda client: client.is_ready(),
    "metadata": lambda client: client.metadata(),
    "statistics": lambda client: client.statistics(),
    "wait_until_ready": lambda client: client.wait_until_ready(0.4),
}


def check_bounded(client, *, is_slow):
    """Every method ends in time: with an error of the client's own, or with a result that holds it."""
    for name, (found, took_s) in zip(CALLS, client.together(list(CALLS.values())), strict=True):
        assert took_s < TIMEOUT_S + 2, name
        if name == "is_ready":
            assert found is False
            continue
        errors = [outcome.error for outcome in found] if name == "classify_many" else [found]
        for error in [found.error] if name == "health" else errors:
            assert isinstance(error, DeadlineExceededError if is_slow else ServerError), name


@pytest.mark.parametrize("behaviour", [*SLOW, *WRONG])
def test_client_bounds_every_call(connect, behaviour):
    """Whatever a server does, each method ends when its time is up; a run gives each image its outcome."""
    with misbehaving(behaviour) as port:
        check_bounded(connect(port, timeout_s=TIMEOUT_S), is_slow=behaviour is silent)


def test_client_reports_an_unreachable_server_quickly(connect, free_port):
    """The error names the URL and comes long before the timeout; `health` and `is_ready` hold it."""
    client = connect(free_port, timeout_s=20)
    started_s = time.monotonic()
    with pytest.raises(UnavailableError, match=str(free_port)):
        client.classify(b"x")
    assert time.monotonic() - started_s < 5
    health = client.health()
    assert not health.ok
    assert not health.server_live
    assert isinstance(health.error, UnavailableError)
    assert not client.is_ready()


def test_wait_until_ready_is_bounded(connect, free_port):
    with misbehaving(silent) as silent_port:
        for port, reason in ((free_port, "cannot be reached"), (silent_port, "did not answer in time")):
            started_s = time.monotonic()
            with pytest.raises(DeadlineExceededError, match=reason):
                connect(port).wait_until_ready(0.4)
            assert time.monotonic() - started_s < 2


@pytest.fixture
def slow_names(monkeypatch):
    """Name services of every kind that do not answer while the test runs."""
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
def test_client_bounds_the_wait_for_a_name_service(connect, slow_names, url):
    """A name that is not resolved costs each method its timeout and no more."""
    check_bounded(connect(8001, url, timeout_s=TIMEOUT_S), is_slow=True)


def test_client_works_on_after_a_timeout(connect, server, images):
    """A few milliseconds are too little for the server."""
    client = connect(server)
    with pytest.raises((DeadlineExceededError, OverloadedError)):
        client.classify(images["cat"], timeout_s=0.003)
    assert client.classify(images["cat"]).predictions
