"""Load test for ResNet-50 on NVIDIA Triton: Locust in front, a verdict at the end.

A program rather than a library; its command is ``resnet-loadtest``. The way of a run through the folders::

    options ─▶ plan/      load over time, arrivals
                 ▼
               generate/  photos, users, workers ─────▶ Triton
                 │ samples                                │ statistics, metrics
                 ▼                                        ▼
               judge/     figures, verdict ◀─────────── server/
                 ▼
               report/    terminal, HTML, JSON, JUnit

``plan/`` and ``judge/`` are pure: numbers in, findings out. Only ``generate/`` knows Locust and gevent.
"""
