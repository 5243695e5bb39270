"""Load test for ResNet-50 on NVIDIA Triton: Locust generates the load, the analysis gives a verdict.

The command is ``resnet-loadtest``. A run passes through the modules in this order::

    options ─▶ schedule        load over time, arrivals
                  ▼
               runner          users or open loop, in this process or in workers ──▶ Triton
                  │ samples                                                            │ statistics, metrics
                  ▼                                                                    ▼
               analysis        metrics, verdict, bottleneck ◀────────────────── server_metrics
                  ▼
               report/         terminal, HTML, JSON, JUnit
"""

from __future__ import annotations

import os


def enable_gevent() -> None:
    """Patch the standard library (Locust does that when it is imported) and gRPC for gevent.

    Call it before anything opens a connection.
    """
    # Otherwise gRPC restarts its poller between fork and exec, on a closed descriptor, and the new process crashes
    # (grpc#43055).
    os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"
    import gevent
    import locust  # noqa: F401  # patches
    from grpc.experimental import gevent as grpc_gevent

    grpc_gevent.init_gevent()
    gevent.get_hub().NOT_ERROR += (KeyboardInterrupt,)  # gevent would print it, and then raise it
