"""Checks of a request before it is answered: host, origin of the browser page, API key."""

from __future__ import annotations

import dataclasses
import hmac
import re

from resnet_client.printing import printable
from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

_LOCAL_HOSTS = ("localhost", "127.0.0.1", "[::1]")
_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[0-9a-z._-]+)(:[0-9]+)?")
_BEARER = "bearer "


@dataclasses.dataclass(frozen=True)
class Access:
    """The allowed hosts, origins and API keys.

    Attributes:
        hosts: allowed names and addresses in the Host header, in addition to those of loopback.
        origins: origins such as ``https://app.example.org`` whose pages may send requests.
        api_keys: each image needs one of these keys; empty: no key is needed.
    """

    hosts: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    api_keys: tuple[str, ...] = dataclasses.field(default=(), repr=False)

    def has_host(self, headers: Headers) -> bool:
        """Whether the Host header names this server; this stops DNS rebinding, where it names the attacker's host."""
        found = _HOST.fullmatch(headers.get("host", "").lower())
        return found is not None and found[1] in (*_LOCAL_HOSTS, *self.hosts)

    def has_origin(self, headers: Headers) -> bool:
        """Whether the request has no Origin header, or that of this host or of an allowed origin."""
        host = headers.get("host", "").lower()
        allowed = (f"http://{host}", f"https://{host}", *self.origins)
        return all(origin.lower() in allowed for origin in headers.getlist("origin"))

    def has_key(self, headers: Headers) -> bool:
        """Whether the request has a valid API key, if one is needed; all keys are compared in constant time."""
        given = headers.get("x-api-key", "")
        authorization = headers.get("authorization", "")
        if not given and authorization.lower().startswith(_BEARER):
            given = authorization[len(_BEARER) :].strip()
        matches = [hmac.compare_digest(given.encode(), key.encode()) for key in self.api_keys]
        return any(matches) or not matches


class AccessMiddleware:
    """Refuses chunked bodies, other hosts and other origins before the application gets the request."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app = app
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer it with 411, 421 or 403."""
        app = self._app
        if scope["type"] == "http":
            headers = Headers(scope=scope)
            if "transfer-encoding" in headers:  # parsing many one-byte chunks would block this process
                app = error(411, "send the body with a Content-Length, not in chunks", {"Connection": "close"})
            elif not self._access.has_host(headers):
                app = error(
                    421, "the host in the Host header is not allowed; the operator can add it with --allowed-hosts"
                )
            elif not self._access.has_origin(headers):
                app = error(
                    403, "the origin of this page is not allowed; the operator can add it with --allowed-origins"
                )
        await app(scope, receive, send)


def error(status: int, message: str, headers: dict[str, str] | None = None) -> JSONResponse:
    """Return the response to a refused request, with the body ``{"error": message}``."""
    return JSONResponse({"error": printable(message)}, status, headers)
