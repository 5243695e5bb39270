"""Switches this process to greenlets; call it before anything opens a connection."""

from __future__ import annotations

import os


def enable() -> None:
    """Patch the standard library (Locust does that when it is imported) and gRPC for gevent."""
    # Between fork and exec, gRPC would restart its poller on a descriptor that is closed by then, and the new process
    # would die (grpc#43055).
    os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"
    import locust  # noqa: F401  # patches
    from grpc.experimental import gevent as grpc_gevent

    grpc_gevent.init_gevent()
