"""Servers that are missing or silent: bounded waiting, our errors, no threads or sockets left."""

import time

import pytest
from resnet_client import (
    DeadlineExceededError,
    OverloadedError,
    ResnetClientError,
    UnavailableError,
)


def test_unreachable_is_said_quickly(connect, free_port):
    """Where nobody listens, the error names the URL and comes long before the time-out."""
    client = connect(free_port, timeout_s=20)
    started_s = time.monotonic()
    with pytest.raises(UnavailableError, match=str(free_port)):
        client.classify(b"x")
    assert time.monotonic() - started_s < 5


def test_a_silent_server_cannot_hold_a_call(connect, silent_port):
    """A server that accepts and never answers costs `timeout_s` and no more, call after call."""
    client = connect(silent_port, timeout_s=0.5)
    for call in (client.classify, client.embed):
        started_s = time.monotonic()
        with pytest.raises(DeadlineExceededError):
            call(b"x")
        assert 0.4 < time.monotonic() - started_s < 1.5


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


def test_a_run_against_a_silent_server_ends(connect, silent_port):
    """Every photo of a run has its outcome, each with its error."""
    outcomes = connect(silent_port, timeout_s=0.4).many([b"x"] * 6, max_in_flight=3)
    assert [type(outcome.error) for outcome in outcomes] == [DeadlineExceededError] * 6


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
            with pytest.raises(ResnetClientError):
                client.metadata()
