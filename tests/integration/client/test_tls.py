"""TLS and mutual TLS: tritonserver's own for gRPC, a proxy's for HTTP; never less than what was asked for."""

import socket
import ssl
import threading
from contextlib import closing

import pytest
from resnet_client import ClientConfig, ResponseError, UnavailableError
from resnet_client.admin import ModelControl
from resnet_serve import ServerConfig, TritonServer

from .conftest import KINDS
from .tls import Identities, terminating

SECURE = "{protocol}s://localhost:{port}"
BY_NAME = "{protocol}s+dns:///localhost:{port}"


@pytest.fixture(scope="module")
def identities(tmp_path_factory):
    """Certificates of a server, a caller, and a stranger."""
    return Identities.make(tmp_path_factory.mktemp("identities") / "all")


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
        "model-control-mode": "explicit",
        "load-model": "resnet50",
    }
    arguments = tuple(f"--{name}={value}" for name, value in flags.items())
    with TritonServer(ServerConfig(repository, port=0, triton_args=arguments)) as running:
        grpc, http = (int(url.rsplit(":", 1)[1]) for url in (running.grpc_url, running.http_url))
        with terminating(http, theirs, asks_caller=True) as port:
            yield {"grpc": grpc, "http": port}


@pytest.fixture
def options(identities):
    """What a caller gives who knows the server and is known to it."""
    own = identities.caller
    return {"ca_certificate": own.authority, "client_certificate": own.certificate, "client_key": own.key}


@pytest.mark.parametrize("url", [SECURE, BY_NAME])
def test_both_sides_know_each_other(connect, ports, options, photos, url):
    """A photo is classified over mutual TLS; behind a name, the certificate is checked against the name."""
    client = connect(ports[connect.protocol], url, **options)
    assert client.classify(photos["cat"]).predictions
    assert client.metadata()["server"]["name"] == "triton"


def test_models_are_controlled_over_mutual_tls(ports, options):
    """``ModelControl`` uses the certificates of its config."""
    url = SECURE.format(protocol="grpc", port=ports["grpc"])
    with ModelControl(ClientConfig.resolve({"url": url, **options})) as control:
        control.load("resnet50")
        assert "resnet50" in {entry.model for entry in control.index()}


@pytest.mark.parametrize("given", ["nothing", "the stranger's"])
def test_a_server_can_refuse_its_callers(connect, ports, options, identities, given):
    """Without a certificate, or with one of another authority, nobody is answered; the error names the option."""
    del options["client_certificate"], options["client_key"]
    if given != "nothing":
        options |= {"client_certificate": identities.stranger.certificate, "client_key": identities.stranger.key}
    with pytest.raises(UnavailableError, match="client_certificate"):
        connect(ports[connect.protocol], SECURE, max_attempts=1, **options).metadata()


@pytest.mark.parametrize("trusted", ["the system's", "the stranger's"])
def test_a_server_must_be_known(connect, ports, options, identities, trusted):
    """By default, and with another authority, the server's certificate is refused; the error names the option."""
    options["ca_certificate"] = None if trusted == "the system's" else identities.stranger.authority
    with pytest.raises(UnavailableError, match="CERTIFICATE_VERIFY_FAILED.*ca_certificate"):
        connect(ports[connect.protocol], SECURE, max_attempts=1, **options).metadata()


def test_a_certificate_is_for_its_host_only(connect, ports, options):
    """The certificate is made out to a name; who asks for the address is not content with it."""
    client = connect(ports[connect.protocol], "{protocol}s://127.0.0.1:{port}", max_attempts=1, **options)
    with pytest.raises(UnavailableError, match="(?i)hostname verification|IP address mismatch"):
        client.metadata()


def test_what_is_encrypted_cannot_be_had_without(connect, ports):
    """A plain URL at an encrypted port is refused by both sides."""
    with pytest.raises(UnavailableError, match="is this its URL"):
        connect(ports[connect.protocol], max_attempts=1).metadata()


def test_what_is_plain_is_not_taken_for_encrypted(connect, server, identities):
    """A secure URL at a plain port fails: nobody falls back."""
    port = int(getattr(server, f"{connect.protocol}_url").rsplit(":", 1)[1])
    with pytest.raises(UnavailableError):
        connect(port, SECURE, max_attempts=1, ca_certificate=identities.server.authority).metadata()


@pytest.mark.parametrize("kind", ["blocking", "awaited"])
def test_a_redirection_is_not_followed(identities, kind):
    """A server that points to an unencrypted address is not obeyed, and the photo does not leave."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(identities.server.certificate, identities.server.key)
    with (
        closing(socket.create_server(("127.0.0.1", 0))) as plain,
        closing(socket.create_server(("127.0.0.1", 0))) as pointing,
    ):
        plain.settimeout(0)
        answer = f"HTTP/1.1 307 Go\r\nLocation: http://127.0.0.1:{plain.getsockname()[1]}/\r\nContent-Length: 0\r\n\r\n"

        def point():
            accepted = context.wrap_socket(pointing.accept()[0], server_side=True)
            with closing(accepted):
                accepted.recv(65536)
                accepted.sendall(answer.encode())
                accepted.recv(65536)

        thread = threading.Thread(target=point)
        thread.start()
        url = f"https://localhost:{pointing.getsockname()[1]}"
        client = KINDS[f"http-{kind}"][1](url, max_attempts=1, ca_certificate=identities.server.authority)
        with pytest.raises(ResponseError):
            client.classify(b"photo")
        client.close()
        thread.join(5)
        with pytest.raises(BlockingIOError):
            plain.accept()
