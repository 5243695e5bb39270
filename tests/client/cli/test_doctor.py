"""`resnet-client doctor`: its URLs."""

import pytest
from resnet_client import UnavailableError, doctor
from resnet_client.__main__ import main


@pytest.mark.parametrize(
    ("arguments", "variable", "expected"),
    [
        (["grpc://h:8001"], "", "http://h:8002/metrics"),
        (["http://[::1]:8000"], "", "http://[::1]:8002/metrics"),
        (["grpc://h:8001"], "http://h:7/metrics", "http://h:7/metrics"),
        (["grpc://h:8001", "--metrics-url", "http://h:9/metrics"], "http://h:7/metrics", "http://h:9/metrics"),
        (["grpc://h:8001"], "none", None),
    ],
)
def test_doctor_prefers_argument_to_environment_to_default_metrics_url(monkeypatch, arguments, variable, expected):
    """``resnet-serve --run`` sets the variable."""
    urls = []

    def take(_, metrics_url):
        urls.append(metrics_url)
        raise UnavailableError("stop here")

    monkeypatch.setattr(doctor, "take", take)
    monkeypatch.setenv("RESNET_METRICS_URL", variable)
    main(["doctor", *arguments])
    assert urls == [expected]


@pytest.mark.parametrize(
    "arguments", [["grpc://a:8001,grpc://b:8001"], ["dns:///a:8001"], ["grpc://a:8001", "--metrics-url", "a:8002"]]
)
def test_doctor_refuses_urls_that_it_cannot_use(arguments, capsys):
    """Several servers, or metrics that are not at an HTTP URL, are a usage error."""
    assert main(["doctor", *arguments]) == 2
    assert "URL" in capsys.readouterr().err
