"""Options: URLs taken apart, and argument > environment > default."""

import os
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from resnet_client import AsyncClient, Client, ClientConfig, ConfigurationError, tls
from resnet_client.endpoints import Endpoint


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("grpc://localhost:8001", Endpoint("grpc", "localhost", 8001)),
        ("grpc://localhost", Endpoint("grpc", "localhost", 8001)),
        ("grpcs://triton.example/", Endpoint("grpcs", "triton.example", 8001)),
        ("http://10.0.0.1", Endpoint("http", "10.0.0.1", 8000)),
        ("https://proxy:443/triton/a/", Endpoint("https", "proxy", 443, "triton/a")),
        ("GRPC://[::1]:9", Endpoint("grpc", "::1", 9)),
        ("dns:///triton:9", Endpoint("grpc", "triton", 9, is_name=True)),
        ("grpcs+dns:///triton", Endpoint("grpcs", "triton", 8001, is_name=True)),
        ("HTTP+DNS:///triton/base", Endpoint("http", "triton", 8000, "base", is_name=True)),
    ],
)
def test_urls_are_taken_apart(url, expected):
    """Scheme, host, port and path are found, ports have defaults."""
    assert Endpoint.parse(url) == expected


def test_addresses_of_ipv6_keep_their_brackets():
    """The target for the network library writes an IPv6 address in brackets."""
    assert Endpoint.parse("http://[::1]:9/base").target == "[::1]:9/base"


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("localhost:8001", "scheme is missing"),
        ("", "scheme is missing"),
        ("ftp://localhost", "'ftp' is unknown"),
        ("grpc://", "host is missing"),
        ("grpc://localhost:eight", "port"),
        ("grpc://localhost:99999", "port"),
        ("grpc://localhost:0", "port"),
        ("grpc://localhost/path", "no path"),
        ("http://me:secret@localhost", "user names"),  # pragma: allowlist secret
        ("http://localhost?x=1", "no meaning"),
        ("grpc://[::1", "Invalid IPv6"),
        ("dns://triton", "three slashes before it, dns:///NAME"),
        ("dns:///", "host is missing"),
        ("ftp+dns:///triton", "'ftp[+]dns' is unknown"),
        ("grpc://a:1,b:2", "scheme is missing"),
    ],
)
def test_bad_urls_are_refused_with_the_remedy(url, reason):
    """A wrong URL gives a sentence with its fault and a correct form."""
    with pytest.raises(ConfigurationError, match=reason) as caught:
        Client(url, model="resnet50") if url else Endpoint.parse(url)
    assert "grpc://HOST:8001" in str(caught.value)


def test_an_address_of_a_name_is_a_server():
    """Certificates are made out to the name, connections go to the address."""
    found = Endpoint.parse("https+dns:///triton:9").at("10.0.0.1")
    assert (str(found), found.found_by) == ("https://10.0.0.1:9", "triton")
    assert str(Endpoint.parse("dns:///triton")) == "grpc+dns:///triton:8001"


@pytest.mark.parametrize("url", ["grpc://a, http://b,grpc://a", ["grpc://a", "http://b", "grpc://a"]])
def test_several_servers_are_a_list(url):
    """Commas in a text or items of a list, each server once."""
    assert [str(endpoint) for endpoint in Client(url).config.endpoints] == ["grpc://a:8001", "http://b:8000"]


def test_argument_beats_environment_beats_default(monkeypatch):
    """The nearer source wins, for every kind of value."""
    monkeypatch.setenv("RESNET_TIMEOUT_S", "7.5")
    monkeypatch.setenv("RESNET_MODEL", "from_environment")
    monkeypatch.setenv("RESNET_RETRY_OVERLOAD", "yes")
    config = Client(model="from_argument").config
    assert (config.model, config.timeout_s, config.retry_overload) == ("from_argument", 7.5, True)
    assert config.url == ClientConfig().url == "grpc://localhost:8001"


def test_empty_variables_count_as_not_set():
    """`RESNET_MODEL=` in a shell leaves the default."""
    assert ClientConfig.resolve({}, {"RESNET_MODEL": ""}).model == "resnet50"


@pytest.mark.parametrize("name", list(ClientConfig.__dataclass_fields__))
def test_every_option_has_a_variable(name, certificate, own):
    """`RESNET_<NAME>` sets the option of that name."""
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
        ({"url": 5}, "5 is no server URL"),
        ({"url": b"grpc://x"}, "b'grpc://x' is no server URL"),
        ({"url": []}, "'' is no server URL"),
        ({"url": ["grpc://a", 5]}, "'5' is no server URL"),
        ({"url": "grpc://a,,grpc://b"}, "'' is no server URL"),
        ({"admin_token": "two words"}, "admin_token must be printable"),
        ({"admin_token": 5}, "admin_token must be printable"),
        ({"ca_certificate": 5}, "ca_certificate .* not 5"),
        ({"ca_certificate": "/no/such/file"}, "/no/such/file"),
        ({"ca_certificate": "/etc"}, "directory"),
        ({"client_certificate": "/no/such/file"}, "client_certificate and client_key belong together"),
        ({"client_key": "/no/such/file"}, "client_certificate and client_key belong together"),
        ({"client_certificate": "/no/such/file", "client_key": "/none"}, "client_certificate: '/no/such/file, /none'"),
    ],
)
def test_senseless_options_are_refused(options, fault):
    """The message names the option."""
    with pytest.raises(ConfigurationError, match=fault):
        Client(**options)


@pytest.mark.parametrize("name", ["TIMEOUT_S", "MAX_ATTEMPTS", "RETRY_OVERLOAD"])
def test_unreadable_variables_are_named(name):
    """A variable that cannot be read is named with its value."""
    with pytest.raises(ConfigurationError, match=f"RESNET_{name}='soon'"):
        ClientConfig.resolve({}, {f"RESNET_{name}": "soon"})


def test_unreadable_versions_are_shown(monkeypatch):
    """The message holds what the variable said."""
    monkeypatch.setenv("RESNET_MODEL_VERSION", "latest")
    with pytest.raises(ConfigurationError, match="not 'latest'"):
        Client()


class BytesPath:
    """A path that is bytes, as the protocol of `os.PathLike` allows."""

    def __init__(self, path):
        self._path = path

    def __fspath__(self):
        return os.fsencode(self._path)


@pytest.mark.parametrize("kind", [str, Path, BytesPath])
def test_certificate_may_be_any_path(kind, certificate):
    """Every kind of path names a certificate."""
    assert Client("https://h", ca_certificate=kind(certificate)).config.ca_certificate == Path(certificate)


@pytest.mark.parametrize("content", ["", "not PEM", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_certificates_are_read_at_once(kind, tmp_path, content):
    """A file without certificates is refused when the client is made, not with its first call."""
    (tmp_path / "bad.pem").write_text(content)
    with pytest.raises(ConfigurationError, match=r"bad.pem' cannot be read as a PEM file"):
        kind("https://localhost", ca_certificate=tmp_path / "bad.pem")


@pytest.mark.parametrize("url", ["grpc://localhost", "http://localhost", "grpcs://a,http://b", "dns:///localhost"])
def test_certificates_are_not_forgotten_silently(url, certificate, own):
    """Who names certificates wants TLS; a URL without it is refused."""
    for options in ({"ca_certificate": certificate}, {"client_certificate": own[0], "client_key": own[1]}):
        with pytest.raises(ConfigurationError, match="needs TLS, but .* has none; write grpcs://"):
            Client(url, **options)


def test_keys_that_need_a_passphrase_are_refused(tmp_path, own):
    """Nobody is asked at the terminal."""
    key = serialization.load_pem_private_key(own[1].read_bytes(), None)
    encryption = serialization.BestAvailableEncryption(b"secret")
    form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    (tmp_path / "key.pem").write_bytes(key.private_bytes(*form, encryption))
    with pytest.raises(ConfigurationError, match="the key is encrypted"):
        Client("https://h", client_certificate=own[0], client_key=tmp_path / "key.pem")


def test_keys_of_others_are_refused(certificate, own):
    """A certificate and a key that do not fit together are found at once."""
    with pytest.raises(ConfigurationError, match="client_certificate"):
        Client("https://h", client_certificate=certificate, client_key=own[1])


def test_tokens_are_not_shown():
    """Neither the client nor its options print the admin token."""
    client = Client(admin_token="s3cr3t")  # noqa: S106  # pragma: allowlist secret
    assert client.config.admin_token == "s3cr3t"  # noqa: S105
    assert "s3cr3t" not in repr(client) + repr(client.config)
    with pytest.raises(ConfigurationError) as caught:
        Client(admin_token="s3 cr3t")  # noqa: S106
    assert "s3 cr3t" not in str(caught.value)
