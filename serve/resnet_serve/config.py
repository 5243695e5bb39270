"""What to run, as plain data, and the errors of running it.

::

    ServerError             the server cannot be started, has ended, or does not answer
    └── UnservableError     starting again will not help: a person has to fix something first
"""

from __future__ import annotations

import dataclasses
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
        host: address to listen on; loopback unless opened up on purpose.
        port: HTTP port; gRPC takes the next one and the metrics the one after. 0 takes three free ports.
        log: file for Triton's log; None for a temporary one that is removed when all went well.
        ready_timeout_s: longest wait for all models to be ready, in seconds.
        exit_timeout_s: longest wait for running requests when stopping, in seconds.
        open_apis: which of :data:`APIS` work without the admin token. With none, metrics, which know no
            token, are for this machine only.
        admin_token: opens the others, 16 characters or more; None for that of the environment variable
            RESNET_ADMIN_TOKEN, or else a random one.
        tls_certificate: PEM file with the server's certificate. gRPC is then served with TLS only, and HTTP
            and metrics, which Triton cannot encrypt, for this machine only.
        tls_key: PEM file of its private key, without a passphrase.
        tls_client_ca: PEM file of authorities; only clients with a certificate of theirs are let in.
        model_config_name: name of the model configs to use: ``<model>/configs/<name>.pbtxt`` where a model has that
            file, else its ``config.pbtxt``. None for ``tuned`` if a model has one, else ``local``; empty for
            ``config.pbtxt`` only.
        triton_args: Triton's own flags, passed through after ours.
    """

    repository: str | Path
    host: str = LOOPBACK
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

    @property
    def http_host(self) -> str:
        """Address that HTTP listens on."""
        return LOOPBACK if self.tls_certificate else self.host

    @property
    def metrics_host(self) -> str:
        """Address that the metrics listen on."""
        return self.http_host if self.open_apis else LOOPBACK
