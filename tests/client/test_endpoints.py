"""URLs of servers, taken apart; what is not one is refused with the remedy."""

import pytest
from resnet_client import Client, ClientConfig, ConfigurationError
from resnet_client.endpoints import Endpoint, parse_all


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
def test_endpoint_is_parsed_from_a_url(url, expected):
    assert Endpoint.parse(url) == expected


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
        ("http://localhost?x=1", "not allowed"),
        ("grpc://[::1", "Invalid IPv6"),
        ("dns://triton", "needs three slashes, dns:///NAME"),
        ("dns:///", "host is missing"),
        ("ftp+dns:///triton", "'ftp[+]dns' is unknown"),
        ("grpc://a:1,b:2", "scheme is missing"),
    ],
)
def test_endpoint_refuses_an_invalid_url(url, reason):
    """The message has the fault and a correct form."""
    with pytest.raises(ConfigurationError, match=reason) as caught:
        parse_all(url)
    assert "grpc://HOST:8001" in str(caught.value)


def test_endpoint_at_an_address_is_found_by_its_name():
    """Certificates are made out to the name, connections go to the address."""
    found = Endpoint.parse("https+dns:///triton:9").at("10.0.0.1")
    assert (str(found), found.found_by) == ("https://10.0.0.1:9", "triton")
    assert str(Endpoint.parse("dns:///triton")) == "grpc+dns:///triton:8001"


@pytest.mark.parametrize("url", ["grpc://a, http://b,grpc://a", ["grpc://a", "http://b", "grpc://a"]])
def test_client_takes_several_urls(url):
    """Commas in a text or items of a list, each server once."""
    assert [str(endpoint) for endpoint in Client(url).config.endpoints] == ["grpc://a:8001", "http://b:8000"]


@pytest.mark.parametrize("url", ["http://me:{}@host", "grpc://{}@host:x", "ftp://a:{}@b", "http://a:{}@[b"])
def test_endpoint_does_not_repeat_a_password(url):
    with pytest.raises(ConfigurationError) as caught:
        ClientConfig(url=url.format("s3cret-w0rd"))
    assert "s3cret-w0rd" not in str(caught.value)
