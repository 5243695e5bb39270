"""TLS and mutual TLS: tritonserver's own for gRPC, a proxy's for HTTP; never less than what was requested."""

from types import SimpleNamespace

import pytest
import trustme
from cryptography.hazmat.primitives import serialization
from resnet_client import AsyncClient, Client, ClientConfig, ConfigurationError, UnavailableError
from resnet_client.admin import ModelControl
from resnet_serve import ServerConfig, TritonServer

from .certificates import issue, terminating

SECURE = "{protocol}s://localhost:{port}"
BY_NAME = "{protocol}s+dns:///localhost:{port}"


@pytest.fixture(scope="module")
def identities(tmp_path_factory):
    """Certificates of a server, a caller, and a caller of another authority."""
    folder = tmp_path_factory.mktemp("identities")
    ours, theirs = trustme.CA(), trustme.CA()
    return SimpleNamespace(
        server=issue(ours, folder / "server", "localhost"),
        caller=issue(ours, folder / "caller", "caller@example.org"),
        other=issue(theirs, folder / "other", "127.0.0.1", "other@example.org"),
    )


@pytest.fixture(scope="module")
def ports(repository, identities):
    """A server that wants certificates of its callers: its gRPC port, and a proxy's port for HTTP."""
    theirs = identities.server
    flags = {
        "grpc-use-ssl": "1",
        "grpc-use-ssl-mutual": "1",
        "grpc-server-cert": theirs.certificate,
        "grpc-server-key": theirs.key,
        "grpc-root-cert": theirs.authority,
    }
    arguments = tuple(f"--{name}={value}" for name, value in flags.items())
    with TritonServer(ServerConfig(repository, port=0, triton_args=arguments)) as running:
        grpc, http = (int(url.rsplit(":", 1)[1]) for url in (running.grpc_url, running.http_url))
        with terminating(http, theirs) as port:
            yield {"grpc": grpc, "http": port}


@pytest.fixture
def options(identities):
    """Options of a caller that trusts the server and is trusted by it."""
    own = identities.caller
    return {"ca_certificate": own.authority, "client_certificate": own.certificate, "client_key": own.key}


@pytest.mark.parametrize("url", [SECURE, BY_NAME])
def test_tls_authenticates_both_sides(connect, ports, options, images, url):
    """An image is classified over mutual TLS; behind a name, the certificate is checked against the name."""
    client = connect(ports[connect.protocol], url, **options)
    assert client.classify(images["cat"]).predictions
    assert client.metadata()["server"]["name"] == "triton"


def test_tls_secures_model_control(ports, options):
    """``ModelControl`` uses the certificates of its config."""
    url = SECURE.format(protocol="grpc", port=ports["grpc"])
    with ModelControl(ClientConfig.resolve({"url": url, **options})) as control:
        control.load("resnet50")
        assert "resnet50" in {entry.model for entry in control.index()}


@pytest.mark.parametrize("given", ["nothing", "another's"])
def test_tls_server_refuses_unknown_callers(connect, ports, options, identities, given):
    """Without a certificate, or with one of another authority; the error names the option."""
    del options["client_certificate"], options["client_key"]
    if given != "nothing":
        options |= {"client_certificate": identities.other.certificate, "client_key": identities.other.key}
    with pytest.raises(UnavailableError, match="client_certificate"):
        connect(ports[connect.protocol], SECURE, max_attempts=1, **options).metadata()


@pytest.mark.parametrize("trusted", ["the system's", "another's"])
def test_tls_refuses_unknown_servers(connect, ports, options, identities, trusted):
    """By default, and with another authority, the server's certificate is refused; the error names the option."""
    options["ca_certificate"] = None if trusted == "the system's" else identities.other.authority
    with pytest.raises(UnavailableError, match="CERTIFICATE_VERIFY_FAILED.*ca_certificate"):
        connect(ports[connect.protocol], SECURE, max_attempts=1, **options).metadata()


def test_tls_refuses_a_certificate_of_another_host(connect, ports, options):
    """The certificate is made out to a name, not to the address."""
    client = connect(ports[connect.protocol], "{protocol}s://127.0.0.1:{port}", max_attempts=1, **options)
    with pytest.raises(UnavailableError, match="(?i)hostname verification|IP address mismatch"):
        client.metadata()


def test_tls_port_refuses_a_plain_url(connect, ports):
    with pytest.raises(UnavailableError, match="that the URL is right"):
        connect(ports[connect.protocol], max_attempts=1).metadata()


@pytest.mark.parametrize("content", ["", "not PEM", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_tls_reads_certificates_at_once(kind, tmp_path, content):
    """A file without certificates is refused when the client is made, not with its first call."""
    (tmp_path / "bad.pem").write_text(content)
    with pytest.raises(ConfigurationError, match=r"bad.pem' cannot be read as a PEM file"):
        kind("https://localhost", ca_certificate=tmp_path / "bad.pem")


@pytest.mark.parametrize("url", ["grpc://localhost", "http://localhost", "grpcs://a,http://b", "dns:///localhost"])
def test_tls_refuses_certificates_for_a_plain_url(url, certificate, own):
    for options in ({"ca_certificate": certificate}, {"client_certificate": own[0], "client_key": own[1]}):
        with pytest.raises(ConfigurationError, match="needs TLS, but .* does not use it; use grpcs://"):
            Client(url, **options)


def test_tls_refuses_a_key_with_a_passphrase(tmp_path, own):
    """OpenSSL would ask for it at the terminal."""
    key = serialization.load_pem_private_key(own[1].read_bytes(), None)
    encryption = serialization.BestAvailableEncryption(b"secret")
    form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    (tmp_path / "key.pem").write_bytes(key.private_bytes(*form, encryption))
    with pytest.raises(ConfigurationError, match="the key is encrypted"):
        Client("https://h", client_certificate=own[0], client_key=tmp_path / "key.pem")
