"""What the server costs: beside the ceiling of the machine, and beside what one would use instead.

``python -m benchmarks run`` measures and writes ``benchmarks/results/*.json``; ``python -m benchmarks.report``
writes figures and charts of ``docs/performance.md`` from these. :mod:`benchmarks.gpu` and
:mod:`benchmarks.preprocessing` repeat the numbers of the pages of these names.
"""
