"""Makes this process one of greenlets; to be called before anything opens a connection."""

from __future__ import annotations

import os


def enable() -> None:
    """Patch the standard library (Locust does that when it is imported) and gRPC for gevent."""
    # Between fork and exec of another process gRPC would start its poller again, whose descriptor is closed by
    # then: the process dies before it begins (grpc#43055).
    os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"
    import locust  # noqa: F401  # patches
    from grpc.experimental import gevent as grpc_gevent

    grpc_gevent.init_gevent()
