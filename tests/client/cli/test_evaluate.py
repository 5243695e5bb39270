"""`resnet-client evaluate`."""

import pytest
from resnet_client import OverloadedError
from resnet_client.__main__ import main
from resnet_client.cli.exit_codes import ExitCode
from resnet_client.requests import Inference


def test_evaluate_sends_the_version_with_every_request(stub, known):
    assert main(["evaluate", "--model", "m", "--model-version", "99", known]) == ExitCode.OK
    asked = [request for request, _ in stub.sent if isinstance(request, Inference) or request.arguments]
    versions = [r.model_version if isinstance(r, Inference) else r.arguments["model_version"] for r in asked]
    assert versions == ["99"] * 4


def test_evaluate_retries_overload(stub, known):
    """What was refused while the server was overloaded is sent again."""
    stub.fail = lambda *_: OverloadedError("queue full") if len(stub.sent) == 5 else None
    assert main(["evaluate", known]) == ExitCode.OK
    assert len(stub.sent) == 6


@pytest.mark.parametrize("models", [[], ["--model", "resnet50", "--model", "network_onnx"]])
def test_evaluate_fails_for_a_version_that_is_not_served(server, images, tmp_path, models):
    """The exit code is 4, and the latest version is not evaluated instead."""
    (tmp_path / "labels.csv").write_text(f"file,class_index\n{images['cat']},282\n")
    command = ["evaluate", str(tmp_path), "--labels", str(tmp_path / "labels.csv"), "--url", server.grpc_url, *models]
    assert main([*command, "--model-version", "99"]) == ExitCode.NO_MODEL
