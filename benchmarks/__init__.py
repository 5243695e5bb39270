"""Benchmark the server against the ceiling of the machine and against other servers (peers).

``python -m benchmarks run`` measures and writes ``benchmarks/results/*.json``; ``python -m benchmarks.report``
writes tables and charts of ``docs/performance.md`` from these. :mod:`benchmarks.gpu` and
:mod:`benchmarks.preprocessing` measure the numbers of the pages of these names.
"""

from __future__ import annotations

import os
from pathlib import Path

import resnet_build  # noqa: F401  # turns off the telemetry of ONNX Runtime and OpenVINO

ROOT = Path(__file__).resolve().parent.parent
"""The checkout."""

BENCH_BIN = ROOT / ".venv-bench/bin"
"""Programs in the environment of the peers."""

CORES = len(os.sched_getaffinity(0))
