"""Which server gets the next request, with a clock of the test's own."""

import contextlib
import math

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from resnet_client import ResnetClientError, ResponseError, UnavailableError, pool
from resnet_client.endpoints import Endpoint, parse_all
from resnet_client.pool import Pool

NAME = Endpoint.parse("dns:///triton:9")
ANSWERED = None
UNREACHABLE = UnavailableError("connection refused")
FAILED = ResponseError("Stub process is not healthy")
CANCELLED = KeyboardInterrupt()


class Clock:
    """Time that passes when told."""

    def __init__(self):
        self.now_s = 100.0

    def __call__(self):
        """The time in seconds."""
        return self.now_s


@pytest.fixture
def clock():
    """A clock."""
    return Clock()


@pytest.fixture
def servers(clock):
    """Three servers."""
    return Pool(parse_all("grpc://a,grpc://b,grpc://c"), clock)


@pytest.fixture
def named(clock):
    """A fleet behind a name that was not resolved yet."""
    return Pool([NAME], clock)


def started(servers, server):
    """A request that is in flight."""
    request = servers.observe(server)
    request.__enter__()
    return request


def ended(request, error):
    """End a request, by an error or with an answer."""
    with contextlib.suppress(ResnetClientError, KeyboardInterrupt):
        request.__exit__(type(error) if error else None, error, None)


def end(servers, server, error):
    """One request to a server that ends like this."""
    ended(started(servers, server), error)


def hosts(servers):
    """Their hosts, in order."""
    return sorted(server.endpoint.host for server in servers)


def test_servers_take_turns(servers):
    """Nine requests are three for each, never two in a row for one."""
    picked = [servers.pick() for _ in range(9)]
    assert [picked.count(server) for server in servers.servers] == [3, 3, 3]
    assert picked[:3] * 3 == picked


def test_a_single_server_is_never_left_out(clock):
    """Without a choice there is nothing to count."""
    servers = Pool(parse_all("grpc://a"), clock)
    assert servers.is_single
    assert servers.pick({servers.servers[0]}) is servers.servers[0]


def test_a_server_that_cannot_be_reached_is_ejected(servers, clock):
    """It gets nothing until a probe is answered; the others share its turns."""
    dead = servers.pick()
    end(servers, dead, UNREACHABLE)
    assert dead not in [servers.pick() for _ in range(6)]
    assert not servers.probes_due()
    clock.now_s += pool.FIRST_EJECTION_S * 1.2
    assert servers.probes_due() == [dead]
    end(servers, dead, ANSWERED)
    assert dead in [servers.pick() for _ in range(3)]


def test_pauses_between_probes_grow(servers, clock):
    """Each probe that fails doubles the pause, up to a limit; an answered request starts anew."""
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


def test_one_failure_inside_is_forgiven(servers):
    """A server that can be reached is ejected after three failures in a row, not after three in all."""
    server = servers.pick()
    for error in (FAILED, FAILED, ANSWERED, FAILED, FAILED, CANCELLED):
        end(servers, server, error)
    assert server.ejected_s is None
    end(servers, server, FAILED)
    assert server.ejected_s is not None


def test_what_was_sent_before_an_ejection_tells_nothing(servers, clock):
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


def test_when_all_are_ejected_they_take_turns_all_the_same(servers, clock):
    """Whoever answers is back; failures in between do not push the probes away."""
    for server in servers.servers:
        end(servers, server, UNREACHABLE)
    due_s = [server.probe_s for server in servers.servers]
    assert {servers.pick() for _ in range(3)} == set(servers.servers)
    clock.now_s += 0.1
    end(servers, servers.servers[0], UNREACHABLE)
    end(servers, servers.servers[1], ANSWERED)
    assert [server.probe_s for server in servers.servers] == due_s
    assert servers.pick() is servers.servers[1]


def test_untried_servers_come_first(servers):
    """After two failures the third server is asked; when all were tried, the healthy ones again."""
    tried = {servers.pick(), servers.pick()}
    assert servers.has_another(tried)
    tried.add(servers.pick(tried))
    assert len(tried) == 3
    assert not servers.has_another(tried)
    assert servers.pick(tried) in tried


def test_a_name_is_resolved_before_the_first_request(named):
    """Until then there is nobody, and whoever asks has to wait."""
    assert named.pick() is None
    assert named.names_due() == [NAME]
    named.resolved(NAME, ["10.0.0.1", "10.0.0.2"])
    assert {str(named.pick().endpoint) for _ in range(2)} == {"grpc://10.0.0.1:9", "grpc://10.0.0.2:9"}


def test_a_name_that_leads_nowhere_is_an_error(named):
    """The error names it; the name is tried again soon."""
    named.resolved(NAME, OSError("no such name"))
    with pytest.raises(UnavailableError, match=r"grpc\+dns:///triton:9 has no address: no such name"):
        named.pick()


def test_servers_stay_while_the_name_cannot_be_resolved(named):
    """A name service that is down takes no server away."""
    named.resolved(NAME, ["10.0.0.1"])
    named.resolved(NAME, OSError("timed out"))
    assert named.pick().endpoint.host == "10.0.0.1"


def test_changes_of_a_name_are_followed(named, clock):
    """New addresses join, old ones leave when they have answered; who stays keeps his history."""
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


def test_a_server_that_comes_back_keeps_its_connections(named, clock):
    """Nothing is closed that the same address uses again."""
    for found in (["1.1.1.1", "2.2.2.2"], ["2.2.2.2"], ["1.1.1.1", "2.2.2.2"]):
        named.resolved(NAME, found)
    clock.now_s += 5
    assert not named.take_drained()


def test_names_are_resolved_anew_regularly_and_after_failures(named, clock):
    """Every few seconds; after an ejection earlier, but not without end."""
    named.resolved(NAME, ["1.1.1.1", "2.2.2.2"])
    clock.now_s += pool.RESOLVE_INTERVAL_S - 0.1
    assert not named.names_due()
    clock.now_s += 0.2
    assert named.names_due() == [NAME]
    named.resolved(NAME, ["1.1.1.1", "2.2.2.2"])
    end(named, named.servers[0], UNREACHABLE)
    assert not named.names_due()
    clock.now_s += pool.SHORTEST_RESOLVE_INTERVAL_S
    assert named.names_due() == [NAME]


def test_nobody_looks_after_an_idle_fleet(servers, clock):
    """It is idle when nothing is under way and nobody has asked for a while."""
    request = started(servers, servers.pick())
    clock.now_s += pool.IDLE_S + 1
    assert not servers.is_idle()
    ended(request, ANSWERED)
    assert servers.is_idle()
    servers.pick()
    assert not servers.is_idle()


class AnyHistory(RuleBasedStateMachine):
    """Requests that begin and end in any order, in a fleet whose name changes, while time passes."""

    @initialize()
    def start(self):
        """One fixed server and a name."""
        self.clock = Clock()
        self.servers = Pool([Endpoint.parse("grpc://fixed"), NAME], self.clock)
        self.in_flight = []

    @rule(taken=st.integers(0, 3))
    def pick(self, taken):
        """A healthy untried server is preferred, then a healthy one; a request begins."""
        tried = set(self.servers.servers[:taken])
        healthy = {server for server in self.servers.servers if server.ejected_s is None}
        server = self.servers.pick(tried)
        assert server in (healthy - tried or healthy or set(self.servers.servers))
        self.in_flight.append((server, started(self.servers, server)))

    @rule(number=st.integers(0, 9), error=st.sampled_from([ANSWERED, UNREACHABLE, FAILED, CANCELLED]))
    def end(self, number, error):
        """Any of the requests ends."""
        if self.in_flight:
            server, request = self.in_flight.pop(number % len(self.in_flight))
            ended(request, error)
            if error is UNREACHABLE:
                assert server.ejected_s is not None

    @rule(addresses=st.sets(st.sampled_from(["1.1.1.1", "2.2.2.2", "3.3.3.3"])))
    def resolve(self, addresses):
        """The name leads elsewhere."""
        self.servers.resolved(NAME, sorted(addresses))
        assert hosts(self.servers.servers) == sorted([*addresses, "fixed"])

    @rule(seconds=st.floats(0, 20))
    def wait(self, seconds):
        """Time passes."""
        self.clock.now_s += seconds

    @rule()
    def part(self):
        """Only who is not known any more and owes no answer is parted from."""
        for endpoint in self.servers.take_drained():
            assert endpoint not in {server.endpoint for server in self.servers.servers}

    @invariant()
    def counts_are_right(self):
        """What is under way is counted; an ejection always ends with a probe."""
        for server in self.servers.servers:
            assert server.in_flight == sum(other is server for other, _ in self.in_flight)
            if server.ejected_s is not None:
                assert server.probe_s - server.ejected_s <= 1.2 * pool.LONGEST_EJECTION_S
                assert not math.isinf(server.probe_s)


TestAnyHistory = AnyHistory.TestCase
TestAnyHistory.settings = settings(max_examples=60, deadline=None)
