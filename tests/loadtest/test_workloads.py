"""Mixes of workloads, and the addresses that they call."""

from hypothesis import example, given
from resnet_loadtest.errors import UsageError
from resnet_loadtest.options import Options
from resnet_loadtest.workloads import WORKLOADS, addresses, parse_mix
from strategies import near


def test_parse_mix_reads_weights():
    """A user without a weight has 1; weights of the same user are added up."""
    assert parse_mix("ClassifyGrpc=2, EmbedHttp,ClassifyGrpc") == {"ClassifyGrpc": 3, "EmbedHttp": 1}


@given(near(*WORKLOADS, "=", ",", " "))
@example("")
@example("ClassifyGrpc=0")
@example("ClassifyGrpc=" + "9" * 5000)
@example("ClassifyGrpc=²")
def test_parse_mix_reads_known_users_or_lists_them(text):
    """A valid mix has known users, each with a weight."""
    try:
        mix = parse_mix(text)
    except UsageError as exc:
        assert "expected ClassifyGrpc" in str(exc)  # noqa: PT017  # most texts are refused
    else:
        assert mix.keys() <= WORKLOADS.keys()
        assert parse_mix(",".join(f"{name}={weight}" for name, weight in mix.items())) == mix


def test_addresses_are_those_of_the_mix():
    """Not the one given, if its protocol is not used."""
    assert addresses(Options(url="grpc://a:8001", mix="EmbedHttp")) == "http://a:8000"
    assert addresses(Options(url="http://a:8000", mix="ClassifyGrpc,EmbedHttp")) == "grpc://a:8001 and http://a:8000"
