"""Options of a client: argument > environment > default."""

from pathlib import Path

import pytest
from resnet_client import Client, ClientConfig, ConfigurationError, tls


def test_client_prefers_argument_to_environment_to_default(monkeypatch):
    monkeypatch.setenv("RESNET_TIMEOUT_S", "7.5")
    monkeypatch.setenv("RESNET_MODEL", "from_environment")
    monkeypatch.setenv("RESNET_RETRY_OVERLOAD", "yes")
    config = Client(model="from_argument").config
    assert (config.model, config.timeout_s, config.retry_overload) == ("from_argument", 7.5, True)
    assert config.url == ClientConfig().url == "grpc://localhost:8001"


@pytest.mark.parametrize("name", list(ClientConfig.__dataclass_fields__))
def test_config_has_a_variable_for_every_option(name, certificate, own):
    values = {
        "url": "https://h:1",
        "model": "m",
        "model_version": "3",
        "preprocessing": "client",
        "timeout_s": 2.5,
        "max_attempts": 9,
        "retry_overload": True,
        "admin_token": "s3",
        "ca_certificate": Path(certificate),
        "client_certificate": own[0],
        "client_key": own[1],
    }
    others = {"url": "grpcs://h", "client_certificate": own[0], "client_key": own[1]} if name in tls.OPTIONS else {}
    others.pop(name, None)
    config = ClientConfig.resolve(others, {f"RESNET_{name.upper()}": str(values[name])})
    assert getattr(config, name) == values[name]


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({"timeout_s": 0}, "timeout_s"),
        ({"timeout_s": float("nan")}, "timeout_s"),
        ({"timeout_s": "5"}, "timeout_s"),
        ({"max_attempts": 0}, "max_attempts"),
        ({"preprocessing": "both"}, "preprocessing"),
        ({"timeout_s": 1e15}, "timeout_s .* at most 1e[+]09"),
        ({"model": ""}, "model"),
        ({"model_version": "abc"}, "model_version .* not 'abc'"),
        ({"model_version": 0}, "model_version .* not 0"),
        ({"url": 5}, "invalid server URL 5"),
        ({"url": b"grpc://x"}, "invalid server URL b'grpc://x'"),
        ({"url": []}, "invalid server URL ''"),
        ({"url": ["grpc://a", 5]}, "invalid server URL '5'"),
        ({"url": "grpc://a,,grpc://b"}, "invalid server URL ''"),
        ({"admin_token": "two words"}, "admin_token must consist of printable"),
        ({"admin_token": 5}, "admin_token must consist of printable"),
        ({"ca_certificate": 5}, "ca_certificate .* not 5"),
        ({"ca_certificate": "/no/such/file"}, "/no/such/file"),
        ({"ca_certificate": "/etc"}, "directory"),
        ({"client_certificate": "/no/such/file"}, "client_certificate and client_key must be set together"),
        ({"client_key": "/no/such/file"}, "client_certificate and client_key must be set together"),
        ({"client_certificate": "/no/such/file", "client_key": "/none"}, "client_certificate: '/no/such/file, /none'"),
    ],
)
def test_client_refuses_invalid_options(options, fault):
    with pytest.raises(ConfigurationError, match=fault):
        Client(**options)


@pytest.mark.parametrize(
    ("name", "message"),
    [(name, f"RESNET_{name}='soon'") for name in ("TIMEOUT_S", "MAX_ATTEMPTS", "RETRY_OVERLOAD")]
    + [("MODEL_VERSION", "not 'soon'")],
)
def test_client_names_the_value_of_an_invalid_variable(monkeypatch, name, message):
    monkeypatch.setenv(f"RESNET_{name}", "soon")
    with pytest.raises(ConfigurationError, match=message):
        Client()


def test_client_does_not_show_its_token():
    client = Client(admin_token="s3cr3t")  # noqa: S106  # pragma: allowlist secret
    assert client.config.admin_token == "s3cr3t"  # noqa: S105
    assert "s3cr3t" not in repr(client) + repr(client.config)
    with pytest.raises(ConfigurationError) as caught:
        Client(admin_token="s3 cr3t")  # noqa: S106
    assert "s3 cr3t" not in str(caught.value)
