"""Which server gets the next request, with a clock of the test's own."""

import math

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from resnet_client import UnavailableError, _fleet
from resnet_client._endpoint import Endpoint, parse_all
from resnet_client._fleet import Fleet, Verdict

NAME = Endpoint.parse("dns:///triton:9")


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
def fleet(clock):
    """Three servers."""
    return Fleet(parse_all("grpc://a,grpc://b,grpc://c"), clock)


@pytest.fixture
def named(clock):
    """A fleet behind a name that was not resolved yet."""
    return Fleet([NAME], clock)


def end(fleet, server, verdict):
    """One request to a server, and how it ended."""
    fleet.end(server, fleet.begin(server), verdict)


def hosts(servers):
    """Their hosts, in order."""
    return sorted(server.endpoint.host for server in servers)


def test_servers_take_turns(fleet):
    """Nine requests are three for each, never two in a row for one."""
    picked = [fleet.pick() for _ in range(9)]
    assert [picked.count(server) for server in fleet.servers] == [3, 3, 3]
    assert picked[:3] * 3 == picked


def test_a_single_server_is_never_left_out(clock):
    """Without a choice there is nothing to count."""
    fleet = Fleet(parse_all("grpc://a"), clock)
    assert fleet.is_single
    assert fleet.pick({fleet.servers[0]}) is fleet.servers[0]


def test_a_server_that_cannot_be_reached_is_ejected(fleet, clock):
    """It gets nothing until a probe is answered; the others share its turns."""
    dead = fleet.pick()
    end(fleet, dead, Verdict.DOWN)
    assert dead not in [fleet.pick() for _ in range(6)]
    assert not fleet.probes_due()
    clock.now_s += _fleet.FIRST_EJECTION_S * 1.2
    assert fleet.probes_due() == [dead]
    end(fleet, dead, Verdict.GOOD)
    assert dead in [fleet.pick() for _ in range(3)]


def test_pauses_between_probes_grow(fleet, clock):
    """Each probe that fails doubles the pause, up to a limit; an answered request starts anew."""
    dead, pauses = fleet.pick(), []
    end(fleet, dead, Verdict.DOWN)
    for _ in range(8):
        pauses.append(dead.probe_s - clock.now_s)
        clock.now_s = dead.probe_s
        end(fleet, dead, Verdict.DOWN)
    expected = [min(_fleet.LONGEST_EJECTION_S, _fleet.FIRST_EJECTION_S * 2**n) for n in range(8)]
    assert pauses == pytest.approx(expected, rel=0.21)
    for _ in range(2):  # the probe, then a request
        clock.now_s += 1
        end(fleet, dead, Verdict.GOOD)
    end(fleet, dead, Verdict.DOWN)
    assert dead.probe_s - clock.now_s == pytest.approx(_fleet.FIRST_EJECTION_S, rel=0.21)


def test_one_failure_inside_is_forgiven(fleet):
    """A server that can be reached is ejected after three failures in a row, not after three in all."""
    server = fleet.pick()
    for verdict in (Verdict.SUSPECT, Verdict.SUSPECT, Verdict.GOOD, Verdict.SUSPECT, Verdict.SUSPECT, Verdict.NONE):
        end(fleet, server, verdict)
    assert server.ejected_s is None
    end(fleet, server, Verdict.SUSPECT)
    assert server.ejected_s is not None


def test_what_was_sent_before_an_ejection_tells_nothing(fleet, clock):
    """A late answer does not bring a server back, a late failure does not eject it for longer."""
    server = fleet.pick()
    early = [fleet.begin(server) for _ in range(3)]
    clock.now_s += 1
    end(fleet, server, Verdict.DOWN)
    due_s = server.probe_s
    for began_s, verdict in zip(early, (Verdict.GOOD, Verdict.DOWN, Verdict.SUSPECT), strict=True):
        clock.now_s += 1
        fleet.end(server, began_s, verdict)
    assert (server.ejected_s is None, server.probe_s, server.busy) == (False, due_s, 0)


def test_when_all_are_ejected_they_take_turns_all_the_same(fleet, clock):
    """Whoever answers is back; failures in between do not push the probes away."""
    for server in fleet.servers:
        end(fleet, server, Verdict.DOWN)
    due_s = [server.probe_s for server in fleet.servers]
    assert {fleet.pick() for _ in range(3)} == set(fleet.servers)
    clock.now_s += 0.1
    end(fleet, fleet.servers[0], Verdict.DOWN)
    end(fleet, fleet.servers[1], Verdict.GOOD)
    assert [server.probe_s for server in fleet.servers] == due_s
    assert fleet.pick() is fleet.servers[1]


def test_untried_servers_come_first(fleet):
    """After two failures the third server is asked; when all were tried, the healthy ones again."""
    tried = {fleet.pick(), fleet.pick()}
    assert fleet.has_another(tried)
    tried.add(fleet.pick(tried))
    assert len(tried) == 3
    assert not fleet.has_another(tried)
    assert fleet.pick(tried) in tried


def test_a_name_is_resolved_before_the_first_request(named):
    """Until then there is nobody, and whoever asks has to wait."""
    assert named.pick() is None
    assert named.names_due() == [NAME]
    named.resolved(NAME, ["10.0.0.1", "10.0.0.2"])
    assert {str(named.pick().endpoint) for _ in range(2)} == {"grpc://10.0.0.1:9", "grpc://10.0.0.2:9"}


def test_a_name_that_leads_nowhere_is_an_error(named):
    """The error names it; the name is tried again soon."""
    named.resolved(NAME, OSError("no such name"))
    with pytest.raises(UnavailableError, match=r"grpc\+dns:///triton:9 leads to no server: no such name"):
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
    end(named, second, Verdict.DOWN)
    began_s = named.begin(first)
    named.resolved(NAME, ["2.2.2.2", "3.3.3.3"])
    assert hosts(named.servers) == ["2.2.2.2", "3.3.3.3"]
    assert second in named.servers
    clock.now_s += 5
    assert not named.take_gone()
    named.end(first, began_s, Verdict.GOOD)
    assert named.take_gone() == [first]
    assert not named.take_gone()


def test_a_server_that_comes_back_keeps_its_connections(named, clock):
    """Nothing is closed that the same address uses again."""
    for found in (["1.1.1.1", "2.2.2.2"], ["2.2.2.2"], ["1.1.1.1", "2.2.2.2"]):
        named.resolved(NAME, found)
    clock.now_s += 5
    assert not named.take_gone()


def test_names_are_resolved_anew_regularly_and_after_failures(named, clock):
    """Every few seconds; after an ejection earlier, but not without end."""
    named.resolved(NAME, ["1.1.1.1", "2.2.2.2"])
    clock.now_s += _fleet.RESOLVE_INTERVAL_S - 0.1
    assert not named.names_due()
    clock.now_s += 0.2
    assert named.names_due() == [NAME]
    named.resolved(NAME, ["1.1.1.1", "2.2.2.2"])
    end(named, named.servers[0], Verdict.DOWN)
    assert not named.names_due()
    clock.now_s += _fleet.SHORTEST_RESOLVE_INTERVAL_S
    assert named.names_due() == [NAME]


def test_nobody_looks_after_an_idle_fleet(fleet, clock):
    """It is idle when nothing is under way and nobody has asked for a while."""
    began_s = fleet.begin(fleet.pick())
    clock.now_s += _fleet.IDLE_S + 1
    assert not fleet.is_idle()
    fleet.end(fleet.servers[0], began_s, Verdict.GOOD)
    for server in fleet.servers:
        server.busy = 0
    assert fleet.is_idle()
    fleet.pick()
    assert not fleet.is_idle()


class AnyHistory(RuleBasedStateMachine):
    """Requests that begin and end in any order, in a fleet whose name changes, while time passes."""

    @initialize()
    def start(self):
        """One fixed server and a name."""
        self.clock = Clock()
        self.fleet = Fleet([Endpoint.parse("grpc://fixed"), NAME], self.clock)
        self.under_way = []

    @rule(taken=st.integers(0, 3))
    def pick(self, taken):
        """A healthy untried server is preferred, then a healthy one; a request begins."""
        tried = set(self.fleet.servers[:taken])
        healthy = {server for server in self.fleet.servers if server.ejected_s is None}
        server = self.fleet.pick(tried)
        assert server in (healthy - tried or healthy or set(self.fleet.servers))
        self.under_way.append((server, self.fleet.begin(server)))

    @rule(number=st.integers(0, 9), verdict=st.sampled_from(Verdict))
    def end(self, number, verdict):
        """Any of the requests ends."""
        if self.under_way:
            server, began_s = self.under_way.pop(number % len(self.under_way))
            self.fleet.end(server, began_s, verdict)
            if verdict is Verdict.DOWN:
                assert server.ejected_s is not None

    @rule(addresses=st.sets(st.sampled_from(["1.1.1.1", "2.2.2.2", "3.3.3.3"])))
    def resolve(self, addresses):
        """The name leads elsewhere."""
        self.fleet.resolved(NAME, sorted(addresses))
        assert hosts(self.fleet.servers) == sorted([*addresses, "fixed"])

    @rule(seconds=st.floats(0, 20))
    def wait(self, seconds):
        """Time passes."""
        self.clock.now_s += seconds

    @rule()
    def part(self):
        """Only who is not known any more and owes no answer is parted from."""
        for server in self.fleet.take_gone():
            assert server not in self.fleet.servers
            assert server.busy == 0

    @invariant()
    def counts_are_right(self):
        """What is under way is counted; an ejection always ends with a probe."""
        for server in self.fleet.servers:
            assert server.busy == sum(other is server for other, _ in self.under_way)
            if server.ejected_s is not None:
                assert server.probe_s - server.ejected_s <= 1.2 * _fleet.LONGEST_EJECTION_S
                assert not math.isinf(server.probe_s)


TestAnyHistory = AnyHistory.TestCase
TestAnyHistory.settings = settings(max_examples=60, deadline=None)
