"""The configuration of the server, and the errors of running it.

::

    ServerError             the server cannot be started, has ended, or does not answer
    ├── NotInstalledError   the extra `serve` is not installed
    ├── PortTakenError      another process listens on one of the ports
    └── UnservableError     it cannot start until a person changes something
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

from resnet_client.endpoints import is_loopback

from resnet_serve.watchdog import CLOSED_APIS, OPEN_APIS

HTTP_PORT = 8000
ALL_MODELS = ("*",)
LOOPBACK = "127.0.0.1"
# Triton's names of the APIs that can require the admin token. Health and inference never do.
APIS = (*OPEN_APIS, *CLOSED_APIS)


class ServerError(Exception):
    """The server cannot be started or has ended; the message names the cause and the remedy."""


class NotInstalledError(ServerError):
    """The extra ``serve`` is not installed."""


class PortTakenError(ServerError):
    """Another process listens on one of the ports."""


class UnservableError(ServerError):
    """The server cannot start with this repository, these options, certificates or packages."""


@dataclasses.dataclass(frozen=True)
class ServerConfig:
    """How the server is run.

    Attributes:
        repository: the model repository.
        models: names of the models to load; Triton also loads the models that an ensemble uses. :data:`ALL_MODELS` for
            all; None for the default model ``resnet50`` if the repository has it, else for all.
        host: address for gRPC.
        unsafe_http_host: address for HTTP; empty for ``host`` if that is loopback, else 127.0.0.1. The embedded Triton
            has known vulnerabilities over HTTP: anyone who can connect to it can crash the server.
        metrics_host: address for the Prometheus metrics, which require no token; empty as with HTTP.
        no_http: whether HTTP serves the watchdog only: on a free port of loopback, with the token for every request.
        port: HTTP port; gRPC uses the next one and the metrics the one after. 0: three free ports.
        log: file for Triton's log; None for a temporary one, which is removed unless it explains a failure.
        ready_timeout_s: longest wait for the models to be ready, in seconds.
        exit_timeout_s: longest wait for running requests when stopping, in seconds.
        open_apis: which of :data:`APIS` need no admin token. Those that load models or read shared memory can be
            opened on loopback only.
        admin_token: required for the other APIs, 16 characters or more; None for the environment variable
            RESNET_ADMIN_TOKEN, else a random token.
        tls_certificate: PEM file with the server's certificate. gRPC is then served with TLS only; Triton cannot
            encrypt HTTP and metrics.
        tls_key: PEM file of its private key, without a passphrase.
        tls_client_ca: PEM file of certificate authorities; clients need a certificate that one of them signed.
        model_config_name: name of the model configs to use: ``<model>/configs/<name>.pbtxt`` where a model has that
            file, else its ``config.pbtxt``. None for ``tuned`` if a model has one, else ``local``; empty for
            ``config.pbtxt`` only.
        triton_args: further flags of ``tritonserver``, passed after those that this package sets.
    """

    repository: str | Path
    models: tuple[str, ...] | None = None
    host: str = LOOPBACK
    unsafe_http_host: str = ""
    metrics_host: str = ""
    no_http: bool = False
    port: int = HTTP_PORT
    log: Path | None = None
    ready_timeout_s: float = 180.0
    exit_timeout_s: int = 30
    open_apis: tuple[str, ...] = OPEN_APIS
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
