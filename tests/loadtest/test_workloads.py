"""Mixes of workloads, and the addresses that they call."""

import pytest
from resnet_loadtest.errors import UsageError
from resnet_loadtest.options import Options
from resnet_loadtest.workloads import addresses, parse_mix


def test_parse_mix_reads_weights():
    """A user without a weight has 1; weights of the same user are added up."""
    assert parse_mix("ClassifyGrpc=2, EmbedHttp,ClassifyGrpc") == {"ClassifyGrpc": 3, "EmbedHttp": 1}


@pytest.mark.parametrize("text", ["", "Classify", "ClassifyGrpc=0", "ClassifyGrpc=" + "9" * 5000, "ClassifyGrpc=²"])
def test_parse_mix_refuses_others_with_the_known_users(text):
    """An unknown user, or a weight that is not a small whole number."""
    with pytest.raises(UsageError, match="expected ClassifyGrpc, "):
        parse_mix(text)


def test_addresses_are_those_of_the_mix():
    """Not the one given, if its protocol is not used."""
    assert addresses(Options(url="grpc://a:8001", mix="EmbedHttp")) == "http://a:8000"
    assert addresses(Options(url="http://a:8000", mix="ClassifyGrpc,EmbedHttp")) == "grpc://a:8001 and http://a:8000"
