"""`resnet-client embed`."""

import pytest
from resnet_client.__main__ import main
from resnet_client.cli.exit_codes import ExitCode


@pytest.mark.parametrize(
    ("output", "message"), [("x.csv", "must end in .npz"), ("nowhere/x.npz", "there is no folder nowhere")]
)
def test_embed_refuses_an_output_before_it_sends(stub, files, capsys, output, message):
    """A suffix that is not numpy's, or a folder that is missing."""
    assert main(["embed", "--output", output, files[0]]) == ExitCode.USAGE
    assert message in capsys.readouterr().err
    assert not stub.sent
