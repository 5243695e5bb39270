"""Which server gets the next request, by a clock of the test's own."""

import contextlib

import pytest
from resnet_client import ResnetClientError, ResponseError, UnavailableError, pool
from resnet_client.endpoints import Endpoint, parse_all
from resnet_client.pool import Pool

NAME = Endpoint.parse("dns:///triton:9")
ANSWERED = None
UNREACHABLE = UnavailableError("connection refused")
FAILED = ResponseError("Stub process is not healthy")
CANCELLED = KeyboardInterrupt()


class Clock:
    """Time that a test moves on."""

    def __init__(self):
        self.now_s = 100.0

    def __call__(self):
        return self.now_s


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def servers(clock):
    return Pool(parse_all("grpc://a,grpc://b,grpc://c"), clock)


@pytest.fixture
def named(clock):
    return Pool([NAME], clock)


def started(servers, server):
    request = servers.observe(server)
    request.__enter__()
    return request


def ended(request, error):
    """End a request, by an error or with an answer."""
    with contextlib.suppress(ResnetClientError, KeyboardInterrupt):
        request.__exit__(type(error) if error else None, error, None)


def end(servers, server, error):
    ended(started(servers, server), error)


def hosts(servers):
    return sorted(server.endpoint.host for server in servers)


def test_pool_makes_pauses_between_probes_longer(servers, clock):
    """Each probe that fails doubles the pause, up to a limit; an answered request resets it."""
    dead, pauses = servers.pick(), []
    end(servers, dead, UNREACHABLE)
    for _ in range(8):
        pauses.append(dead.probe_s - clock.now_s)
        clock.now_s = dead.probe_s
        end(servers, dead, UNREACHABLE)
    expected = [min(pool.LONGEST_EJECTION_S, pool.FIRST_EJECTION_S * 2**n) for n in range(8)]
    assert pauses == pytest.approx(expected, rel=0.21)
    for _ in range(2):  # the probe, then a request
        clock.now_s += 1
        end(servers, dead, ANSWERED)
    end(servers, dead, UNREACHABLE)
    assert dead.probe_s - clock.now_s == pytest.approx(pool.FIRST_EJECTION_S, rel=0.21)


def test_pool_ejects_a_reachable_server_after_three_failures_in_a_row(servers):
    """Not after three in all."""
    server = servers.pick()
    for error in (FAILED, FAILED, ANSWERED, FAILED, FAILED, CANCELLED):
        end(servers, server, error)
    assert server.ejected_s is None
    end(servers, server, FAILED)
    assert server.ejected_s is not None


def test_pool_ignores_results_of_requests_from_before_an_ejection(servers, clock):
    """A late answer does not bring a server back, a late failure does not eject it for longer."""
    server = servers.pick()
    early = [started(servers, server) for _ in range(3)]
    clock.now_s += 1
    end(servers, server, UNREACHABLE)
    due_s = server.probe_s
    for request, error in zip(early, (ANSWERED, UNREACHABLE, FAILED), strict=True):
        clock.now_s += 1
        ended(request, error)
    assert (server.ejected_s is None, server.probe_s, server.in_flight) == (False, due_s, 0)


def test_pool_picks_ejected_servers_if_all_are(servers, clock):
    """The first that answers is healthy; failures in between do not push the probes away."""
    for server in servers.servers:
        end(servers, server, UNREACHABLE)
    due_s = [server.probe_s for server in servers.servers]
    assert {servers.pick() for _ in range(3)} == set(servers.servers)
    clock.now_s += 0.1
    end(servers, servers.servers[0], UNREACHABLE)
    end(servers, servers.servers[1], ANSWERED)
    assert [server.probe_s for server in servers.servers] == due_s
    assert servers.pick() is servers.servers[1]


def test_pool_keeps_servers_while_their_name_cannot_be_resolved(named):
    """A name service that is down removes no server."""
    named.resolved(NAME, ["10.0.0.1"])
    named.resolved(NAME, OSError("timed out"))
    assert named.pick().endpoint.host == "10.0.0.1"


def test_pool_follows_changes_of_a_name(named, clock):
    """New servers join, old ones leave when they have answered; one that stays keeps its state."""
    named.resolved(NAME, ["1.1.1.1", "2.2.2.2"])
    first, second = sorted(named.servers, key=lambda server: server.endpoint.host)
    end(named, second, UNREACHABLE)
    request = started(named, first)
    named.resolved(NAME, ["2.2.2.2", "3.3.3.3"])
    assert hosts(named.servers) == ["2.2.2.2", "3.3.3.3"]
    assert second in named.servers
    clock.now_s += 5
    assert not named.take_drained()
    ended(request, ANSWERED)
    assert named.take_drained() == [first.endpoint]
    assert not named.take_drained()


def test_pool_keeps_connections_of_a_server_that_returns(named, clock):
    """Nothing is closed that the same address uses again."""
    for found in (["1.1.1.1", "2.2.2.2"], ["2.2.2.2"], ["1.1.1.1", "2.2.2.2"]):
        named.resolved(NAME, found)
    clock.now_s += 5
    assert not named.take_drained()


def test_pool_is_idle_without_requests(servers, clock):
    """None is in flight, and none has come for a while."""
    request = started(servers, servers.pick())
    clock.now_s += pool.IDLE_S + 1
    assert not servers.is_idle()
    ended(request, ANSWERED)
    assert servers.is_idle()
    servers.pick()
    assert not servers.is_idle()
