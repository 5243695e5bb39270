"""Makes this process one of greenlets; to be called before anything opens a connection."""

from __future__ import annotations


def enable() -> None:
    """Patch the standard library (Locust does that when it is imported) and gRPC for gevent."""
    import locust  # noqa: F401  # patches
    from grpc.experimental import gevent as grpc_gevent

    grpc_gevent.init_gevent()
