"""What to run, as plain data, and the errors of running it.

::

    ServerError             the server cannot be started, has ended, or does not answer
    └── UnservableError     starting again will not help: a person has to fix something first
"""

from __future__ import annotations

import contextlib
import dataclasses
import ipaddress
from pathlib import Path

from resnet_serve.watchdog import CLOSED_APIS

HTTP_PORT = 8000
LOOPBACK = "127.0.0.1"
# What can be closed to clients without the admin token, by Triton's names. Health and inference never are.
APIS = ("metadata", "model-config", *CLOSED_APIS)


class ServerError(Exception):
    """The server cannot be started or has ended; the message names the cause and the remedy."""


class UnservableError(ServerError):
    """Repository, options, certificates or packages are not such that a server could start with them."""


@dataclasses.dataclass(frozen=True)
class ServerConfig:
    """How the server is run.

    Attributes:
        repository: the model repository.
        host: address that gRPC listens on; loopback unless opened up on purpose.
        unsafe_http_host: address that HTTP listens on; empty for ``host`` if that is loopback, else 127.0.0.1. The
            embedded Triton has known holes there: beyond loopback, anyone who reaches it can end the server.
        metrics_host: address that the Prometheus metrics listen on, which know no token; empty as with HTTP.
        no_http: whether HTTP answers the watchdog only: on a free port of loopback, with the token for everything.
        port: HTTP port; gRPC takes the next one and the metrics the one after. 0 takes three free ports.
        log: file for Triton's log; None for a temporary one that is removed when all went well.
        ready_timeout_s: longest wait for all models to be ready, in seconds.
        exit_timeout_s: longest wait for running requests when stopping, in seconds.
        open_apis: which of :data:`APIS` work without the admin token. Those that load models or read shared memory can
            be opened on loopback only.
        admin_token: opens the others, 16 characters or more; None for that of the environment variable
            RESNET_ADMIN_TOKEN, or else a random one.
        tls_certificate: PEM file with the server's certificate. gRPC is then served with TLS only; Triton cannot
            encrypt HTTP and metrics.
        tls_key: PEM file of its private key, without a passphrase.
        tls_client_ca: PEM file of authorities; only clients with a certificate of theirs are let in.
        model_config_name: name of the model configs to use: ``<model>/configs/<name>.pbtxt`` where a model has that
            file, else its ``config.pbtxt``. None for ``tuned`` if a model has one, else ``local``; empty for
            ``config.pbtxt`` only.
        triton_args: Triton's own flags, passed through after ours.
    """

    repository: str | Path
    host: str = LOOPBACK
    unsafe_http_host: str = ""
    metrics_host: str = ""
    no_http: bool = False
    port: int = HTTP_PORT
    log: Path | None = None
    ready_timeout_s: float = 180.0
    exit_timeout_s: int = 30
    open_apis: tuple[str, ...] = ("metadata", "model-config")
    admin_token: str | None = dataclasses.field(default=None, repr=False)
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    tls_client_ca: Path | None = None
    model_config_name: str | None = None
    triton_args: tuple[str, ...] = ()

    @property
    def closed_apis(self) -> tuple[str, ...]:
        """Which of :data:`APIS` require the admin token."""
        return tuple(api for api in APIS if api not in self.open_apis)

    def __post_init__(self) -> None:
        for name in ("unsafe_http_host", "metrics_host"):
            default = self.host if is_loopback(self.host) else LOOPBACK
            object.__setattr__(self, name, getattr(self, name) or default)

    @property
    def http_host(self) -> str:
        """Address that HTTP listens on."""
        return LOOPBACK if self.no_http else self.unsafe_http_host


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address, or the name ``localhost``."""
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"
