"""Where the server is: one URL, taken apart once; its scheme picks the protocol."""

from __future__ import annotations

import dataclasses
from urllib.parse import SplitResult, urlsplit

from resnet_client._exceptions import ConfigurationError

DEFAULT_PORTS = {"grpc": 8001, "grpcs": 8001, "http": 8000, "https": 8000}


@dataclasses.dataclass(frozen=True)
class Endpoint:
    """A server's address.

    Attributes:
        scheme: ``grpc``, ``grpcs``, ``http`` or ``https``.
        host: name or address; an IPv6 address without its brackets.
        port: TCP port, 1 to 65535.
        path: base path of an HTTP proxy, without slashes at its ends; empty for gRPC.
    """

    scheme: str
    host: str
    port: int
    path: str = ""

    @classmethod
    def parse(cls, url: str) -> Endpoint:
        """Take a URL such as ``grpc://localhost:8001`` apart.

        Raises:
            ConfigurationError: scheme, host or port is missing or wrong; the message names a correct form.
        """
        parts = _split(url)
        if parts.username or parts.password or parts.query or parts.fragment:
            raise _refused(url, "user names, '?' and '#' have no meaning here")
        path = parts.path.strip("/")
        if path and parts.scheme.startswith("grpc"):
            raise _refused(url, f"a gRPC server has no path, but /{path} was given")
        if not parts.hostname:
            raise _refused(url, "the host is missing")
        return cls(parts.scheme, parts.hostname, _port(url, parts), path)

    @property
    def is_grpc(self) -> bool:
        """Whether gRPC is spoken; otherwise HTTP."""
        return self.scheme.startswith("grpc")

    @property
    def is_tls(self) -> bool:
        """Whether the connection is encrypted and the server's certificate verified."""
        return self.scheme.endswith("s")

    @property
    def target(self) -> str:
        """``host:port``, with the base path if there is one, as tritonclient wants it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}/{self.path}" if self.path else f"{host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.target}"


def _split(url: object) -> SplitResult:
    if not isinstance(url, str) or "://" not in url:
        raise _refused(url, "the scheme is missing")
    try:
        parts = urlsplit(url)
    except ValueError as exc:
        raise _refused(url, str(exc)) from exc
    if parts.scheme not in DEFAULT_PORTS:
        raise _refused(url, f"the scheme {parts.scheme!r} is unknown")
    return parts


def _port(url: str, parts: SplitResult) -> int:
    try:
        port = parts.port
    except ValueError as exc:
        raise _refused(url, "the port is no number from 1 to 65535") from exc
    if port == 0:
        raise _refused(url, "the port is no number from 1 to 65535")
    return port or DEFAULT_PORTS[parts.scheme]


def _refused(url: object, reason: str) -> ConfigurationError:
    return ConfigurationError(
        f"{url!r} is no server URL: {reason}; write grpc://HOST:8001, http://HOST:8000, grpcs://… or https://…"
    )
