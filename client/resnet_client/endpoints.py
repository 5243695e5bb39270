"""Parse server URLs; the scheme selects the protocol."""

from __future__ import annotations

import contextlib
import dataclasses
import ipaddress
import re
import socket
from urllib.parse import SplitResult, urlsplit

from resnet_client.errors import ConfigurationError

DEFAULT_PORTS = {"grpc": 8001, "grpcs": 8001, "http": 8000, "https": 8000}


@dataclasses.dataclass(frozen=True)
class Endpoint:
    """A server's address, or a DNS name that stands for all its addresses.

    Attributes:
        scheme: ``grpc``, ``grpcs``, ``http`` or ``https``.
        host: name or address; an IPv6 address without its brackets.
        port: TCP port, 1 to 65535.
        path: base path of an HTTP proxy, without slashes at its ends; empty for gRPC.
        is_name: whether ``host`` stands for all its addresses (``dns:///``) and is resolved first.
        found_by: the name that was resolved to this address, which certificates name; else empty.
    """

    scheme: str
    host: str
    port: int
    path: str = ""
    is_name: bool = False
    found_by: str = ""

    @classmethod
    def parse(cls, url: str) -> Endpoint:
        """Parse a URL such as ``grpc://localhost:8001`` or ``dns:///triton:8001``.

        Raises:
            ConfigurationError: scheme, host or port is missing or wrong; the message names a correct form.
        """
        parts, is_name = _split(url)
        if parts.username or parts.password or parts.query or parts.fragment:
            raise _refused(url, "user names, '?' and '#' are not allowed")
        path = parts.path.strip("/")
        if path and parts.scheme.startswith("grpc"):
            raise _refused(url, f"a gRPC URL has no path, but this one has /{path}")
        if not parts.hostname:
            raise _refused(url, "the host is missing")
        return cls(parts.scheme, parts.hostname, _port(url, parts), path, is_name)

    def at(self, address: str) -> Endpoint:
        """The server at one address of this name."""
        return dataclasses.replace(self, host=address, is_name=False, found_by=self.host)

    @property
    def is_grpc(self) -> bool:
        """Whether the protocol is gRPC; otherwise HTTP."""
        return self.scheme.startswith("grpc")

    @property
    def is_tls(self) -> bool:
        """Whether the connection is encrypted and the server's certificate verified."""
        return self.scheme.endswith("s")

    @property
    def is_loopback(self) -> bool:
        """Whether the server is on this machine, by its address or by the name ``localhost``."""
        return is_loopback(self.host)

    @property
    def target(self) -> str:
        """``host:port``, with the base path if there is one, as gRPC expects it."""
        host = bracketed(self.host)
        return f"{host}:{self.port}/{self.path}" if self.path else f"{host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.scheme}+dns:///{self.target}" if self.is_name else f"{self.scheme}://{self.target}"


def bracketed(host: str) -> str:
    """A host as it stands before a port: an IPv6 address has brackets."""
    return f"[{host}]" if ":" in host else host


def is_loopback(host: str) -> bool:
    """Whether only this machine can connect to an address, or to the name ``localhost``."""
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"


def parse_all(urls: str) -> tuple[Endpoint, ...]:
    """All URLs of a list separated by commas, without duplicates.

    Raises:
        ConfigurationError: one of them is invalid.
    """
    if not isinstance(urls, str):
        raise _refused(urls, "it is not a string")
    return tuple(dict.fromkeys(Endpoint.parse(url.strip()) for url in urls.split(",")))


def resolve(name: Endpoint) -> list[str] | Exception:
    """All addresses of a name, or the error of the resolver; blocks until the system's resolver answers."""
    try:
        found = socket.getaddrinfo(name.host, name.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as exc:  # UnicodeError: not a valid host name
        return exc
    return [str(address[0]) for *_, address in found]


def _split(url: str) -> tuple[SplitResult, bool]:
    kind, separator, rest = url.partition("://")
    if not separator:
        raise _refused(url, "the scheme is missing")
    is_name = kind.lower() == "dns" or kind.lower().endswith("+dns")
    scheme = "grpc" if kind.lower() == "dns" else kind.lower().removesuffix("+dns")
    if scheme not in DEFAULT_PORTS:
        raise _refused(url, f"the scheme {kind!r} is unknown")
    if is_name and not rest.startswith("/"):
        raise _refused(url, f"a DNS name needs three slashes, {kind}:///NAME")
    try:
        return urlsplit(f"{scheme}://{rest.removeprefix('/') if is_name else rest}"), is_name
    except ValueError as exc:
        raise _refused(url, str(exc)) from exc


def _port(url: str, parts: SplitResult) -> int:
    try:
        port = parts.port
    except ValueError as exc:
        raise _refused(url, "the port is not a number from 1 to 65535") from exc
    if port == 0:
        raise _refused(url, "the port is not a number from 1 to 65535")
    return port or DEFAULT_PORTS[parts.scheme]


def _refused(url: object, reason: str) -> ConfigurationError:
    # A password in the URL must not appear in a log.
    shown = re.sub(r"//.*@", "//…@", url, flags=re.DOTALL) if isinstance(url, str) else url
    return ConfigurationError(
        f"invalid server URL {shown!r}: {reason}; expected grpc://HOST:8001, http://HOST:8000, grpcs://… or https://…, "
        "several separated by commas, or dns:///NAME:8001 (http+dns:///…) for all addresses of a name"
    )
