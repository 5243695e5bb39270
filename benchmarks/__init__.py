"""Measure the server against one process without a server, and against other servers (peers); and the load test.

``python -m benchmarks run`` measures and writes ``benchmarks/results.json``; ``report`` writes
``docs/performance.md`` from it, and ``compare`` compares it with the last release. :mod:`benchmarks.gpu` measures the
numbers of ``docs/gpu.md``.
"""

from __future__ import annotations

import os
from pathlib import Path

import resnet_build  # noqa: F401  # turns off the telemetry of ONNX Runtime and OpenVINO

ROOT = Path(__file__).resolve().parent.parent
"""The checkout."""

CORES = len(os.sched_getaffinity(0))
