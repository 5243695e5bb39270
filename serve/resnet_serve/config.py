"""What to run: plain data, no I/O."""

from __future__ import annotations

import dataclasses
from pathlib import Path

HTTP_PORT = 8000


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
        triton_args: Triton's own flags, passed through after ours.
    """

    repository: str | Path
    host: str = "127.0.0.1"
    port: int = HTTP_PORT
    log: Path | None = None
    ready_timeout_s: float = 180.0
    exit_timeout_s: int = 30
    triton_args: tuple[str, ...] = ()
