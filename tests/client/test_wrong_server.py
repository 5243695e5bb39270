"""URLs that lead to the wrong port, protocol or path; responses of proxies."""

from contextlib import closing
from urllib.parse import urlsplit

import pytest
from resnet_client import OverloadedError, RequestError, ResponseError, UnavailableError
from stub import Handler, serving

from .clients import Awaited, Blocking

KINDS = (Blocking, Awaited)


def port_of(url):
    return urlsplit(url).port


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("grpc://127.0.0.1:{http}", (UnavailableError, "is this a gRPC port?")),
        ("http://127.0.0.1:{grpc}", (UnavailableError, "is this the gRPC port?")),
        ("http://127.0.0.1:{metrics}", (RequestError, "no Triton server at this URL")),
        ("http://127.0.0.1:{http}/wrong/base", (RequestError, "no Triton server at this URL")),
        ("grpcs://127.0.0.1:{grpc}", (UnavailableError, "the server does not use TLS at this port")),
        ("https://127.0.0.1:{grpc}", (UnavailableError, "check that the server runs and uses TLS")),
        ("https://127.0.0.1:{http}", (UnavailableError, "check that the server runs and uses TLS")),
    ],
)
def test_classify_names_what_is_wrong_with_the_url(kind, server, images, url, expected):
    """One readable line, the same for both clients."""
    error, message = expected
    ports = {"http": port_of(server.http_url), "grpc": port_of(server.grpc_url), "metrics": port_of(server.metrics_url)}
    with closing(kind(url.format(**ports), max_attempts=1)) as client, pytest.raises(error) as raised:
        client.classify(images["cat"])
    assert message in str(raised.value)
    assert str(raised.value).isprintable()
    assert "0x" not in str(raised.value)


class Proxy(Handler):
    """Refuses because of its rate limit, or redirects."""

    status = 429
    seen = 0

    def do_GET(self):  # noqa: N802  # the name that the library calls
        Proxy.seen += 1
        self.respond(status=self.status, Location="/elsewhere")


@pytest.fixture
def proxy():
    with serving(Proxy) as running:
        yield running.url


@pytest.mark.parametrize("kind", KINDS)
def test_statistics_takes_status_429_for_overload(kind, proxy):
    """As proxies use it."""
    with closing(kind(proxy)) as client, pytest.raises(OverloadedError, match="retry later"):
        client.statistics()


@pytest.mark.parametrize("kind", KINDS)
def test_client_follows_no_redirection(kind, proxy, monkeypatch):
    """It may lead to an address without encryption."""
    monkeypatch.setattr(Proxy, "status", 307)
    monkeypatch.setattr(Proxy, "seen", 0)
    with closing(kind(proxy, max_attempts=1)) as client, pytest.raises(ResponseError):
        client.statistics()
    assert Proxy.seen == 1
