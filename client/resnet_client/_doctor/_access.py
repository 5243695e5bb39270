"""Checks of what strangers can do."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

from resnet_client._doctor._check import Check, Hits

if TYPE_CHECKING:
    from collections.abc import Callable

    from resnet_client._doctor._snapshot import Snapshot
    from resnet_client.endpoints import Endpoint

CLOSE = (
    "close it: resnet-serve does so by itself; tritonserver with --http-restricted-api={api}:admin-key=TOKEN and "
    "--grpc-restricted-protocol={api}:admin-key=TOKEN"
)


def is_loopback(endpoint: Endpoint) -> bool:
    """Whether only this machine can get there."""
    try:
        return ipaddress.ip_address(endpoint.host).is_loopback
    except ValueError:  # a name
        return endpoint.host == "localhost"


def plaintext(seen: Snapshot) -> Hits:
    """Photos and tokens can be read on the way."""
    if not seen.endpoint.is_tls and not is_loopback(seen.endpoint):
        yield str(seen.endpoint), f"{seen.endpoint.scheme}:// to another machine is not encrypted"


def token_refused(seen: Snapshot) -> Hits:
    """The token given opens nothing."""
    if seen.token_refused:
        yield str(seen.endpoint), "the admin token given is refused"


def _open(api: str, what: str) -> Callable[[Snapshot], Hits]:
    def find(seen: Snapshot) -> Hits:
        if (seen.open_apis or {}).get(api):
            yield str(seen.endpoint), f"{what} answers without a token"

    return find


def _open_check(name: str, api: str, what: str, cause: str) -> Check:
    return Check(name, "exposed", ("open_apis",), _open(api, what), cause, CLOSE.format(api=api))


CHECKS = (
    Check(
        "plaintext",
        "exposed",
        ("endpoint",),
        plaintext,
        "photos, answers and tokens can be read and changed on the way",
        "put TLS in front and use grpcs:// or https://; in a closed network: --ignore plaintext",
    ),
    Check(
        "token-refused",
        "wrong",
        ("endpoint",),
        token_refused,
        "what the token should open is not checked, and operators cannot get in",
        "take the server's own: RESNET_ADMIN_TOKEN, or the file of resnet-serve --admin-token-file",
    ),
    _open_check(
        "control-open",
        "model-repository",
        "the control of models",
        "with explicit model control anybody can unload models, or load one that runs code of theirs",
    ),
    _open_check(
        "shared-memory-open",
        "shared-memory",
        "the shared-memory interface",
        "anybody can make the server map memory, and read and write what is in it",
    ),
    _open_check(
        "trace-open",
        "trace",
        "the trace interface",
        "anybody can make the server write traces, photos included, into files of their choice",
    ),
    _open_check(
        "logging-open",
        "logging",
        "the log interface",
        "anybody can silence the log, or fill the disk with it",
    ),
    _open_check(
        "statistics-open",
        "statistics",
        "the statistics interface",
        "anybody can see how much is asked, and when",
    ),
)
