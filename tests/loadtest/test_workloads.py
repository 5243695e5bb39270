"""Mixes of workloads."""

import pytest
from resnet_loadtest.errors import UsageError
from resnet_loadtest.workloads import parse_mix


def test_parse_mix_reads_weights():
    """A user without a weight has 1; weights of the same user are added up."""
    assert parse_mix("ClassifyGrpc=2, EmbedHttp,ClassifyGrpc") == {"ClassifyGrpc": 3, "EmbedHttp": 1}


@pytest.mark.parametrize("text", ["", "Classify", "ClassifyGrpc=0", "ClassifyGrpc=" + "9" * 5000, "ClassifyGrpc=²"])
def test_parse_mix_refuses_others_with_the_known_users(text):
    """An unknown user, or a weight that is not a small whole number."""
    with pytest.raises(UsageError, match="expected ClassifyGrpc, "):
        parse_mix(text)
