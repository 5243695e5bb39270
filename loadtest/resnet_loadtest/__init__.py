"""Load test for ResNet-50 on NVIDIA Triton: Locust generates the load, the analysis ends in a verdict.

A program rather than a library; its command is ``resnet-loadtest``. A run passes through the modules in this order::

    options ─▶ schedule        load over time, arrivals
                  ▼
               runner          users or open loop, in this process or in workers ──▶ Triton
                  │ samples                                                            │ statistics, metrics
                  ▼                                                                    ▼
               analysis        metrics, verdict, bottleneck ◀──────────────────── observer
                  ▼
               report/         terminal, HTML, JSON, JUnit
"""
