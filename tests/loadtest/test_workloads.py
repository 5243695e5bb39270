"""Mixes of workloads, and the addresses that they call."""

import pytest
from hypothesis import example, given
from resnet_loadtest.errors import UsageError
from resnet_loadtest.options import Options
from resnet_loadtest.workloads import WORKLOADS, addresses, parse_mix
from strategies import near


@pytest.mark.parametrize(
    ("text", "mix"),
    [
        ("ClassifyGrpc", {"ClassifyGrpc": 1}),
        ("Mixed=2, EmbedHttp=3", {"ClassifyGrpc": 2, "ClassifyHttp": 2, "EmbedHttp": 3}),
        ("Mixed,ClassifyGrpc", {"ClassifyGrpc": 2, "ClassifyHttp": 1}),
    ],
)
def test_parse_mix_reads_weights(text, mix):
    """Mixed is both protocols."""
    assert parse_mix(text) == mix


@pytest.mark.parametrize("text", ["", "Unknown", "ClassifyGrpc=0", "ClassifyGrpc=x", "Mixed=-1"])
def test_parse_mix_refuses_unknown_users(text):
    """The message lists the users."""
    with pytest.raises(UsageError, match="expected ClassifyGrpc"):
        parse_mix(text)


@given(near(*WORKLOADS, "Mixed", "=", ",", " "))
@example("ClassifyGrpc=" + "9" * 5000)
@example("ClassifyGrpc=²")
def test_parse_mix_survives_any_text(text):
    """A valid mix has known users, each with a weight."""
    try:
        mix = parse_mix(text)
    except UsageError:
        return
    assert mix.keys() <= WORKLOADS.keys()
    assert parse_mix(",".join(f"{name}={weight}" for name, weight in mix.items())) == mix


@pytest.mark.parametrize(
    ("mix", "url", "shown"),
    [
        ("ClassifyGrpc", "grpc://a:8001", "grpc://a:8001"),
        ("BatchHttp", "grpc://a:8001", "http://a:8000"),
        ("ClassifyGrpc=3,EmbedGrpc", "http://a:8000", "grpc://a:8001"),
        ("Mixed", "http://a:8000", "grpc://a:8001 and http://a:8000"),
    ],
)
def test_addresses_are_those_of_the_mix(mix, url, shown):
    """Not the one given, if its protocol is not used."""
    assert addresses(Options(url=url, mix=mix)) == shown
