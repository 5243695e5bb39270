"""From results to the tables and charts of docs/performance.md.

Runs in the benchmark's own environment, for matplotlib: ``.venv-bench/bin/python -m benchmarks.report``.
"""
