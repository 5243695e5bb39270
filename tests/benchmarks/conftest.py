"""Small results of a benchmark, as ``benchmarks run`` writes them."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

# Images per second with 16 callers in two rounds, by name, variant and protocol.
RATES = {
    ("in process", "onnx", ""): (30.0, 32.0),
    ("in process", "int8", ""): (100.0, 110.0),
    ("resnet50", "onnx", "HTTP"): (27.0, 32.0),
    ("resnet50", "onnx", "gRPC"): (27.0, 30.0),
    ("resnet50_int8", "int8", "HTTP"): (90.0, 88.0),
    ("resnet50_int8", "int8", "gRPC"): (95.0, 99.0),
    ("resnet50_int8", "int8", "AsyncClient"): (94.0, 99.0),
    ("gateway", "int8", "HTTP"): (80.0, 88.0),
    ("mosec", "int8", "HTTP"): (60.0, 40.0),
    ("LitServe", "int8", "HTTP"): (45.0, 80.0),
}


@pytest.fixture
def results() -> dict[str, Any]:
    """Two variants, two other servers, two rounds."""
    measurements = [
        {"name": name, "variant": variant, "protocol": protocol, "callers": callers, "round": turn}
        | {"images_per_s": rate / (1 if callers == 16 else 2), "p50_ms": 1000 / rate}
        | ({"generator_core_ms": 0.2 if protocol == "HTTP" else 0.5} if protocol else {})
        for (name, variant, protocol), rates in RATES.items()
        for turn, rate in enumerate(rates)
        for callers in (16, 1)
    ]
    servers = dict.fromkeys((name, variant) for name, variant, _ in RATES if name != "in process")
    machine = {"processor": "Example 9000", "cores": 2, "memory_gib": 24, "python": "3.11.7", "version": "0.1.0"}
    return {
        "machine": machine
        | {"commit": "0123456789", "date": "2026-11-28", "packages": {"numpy": "1.26.4"}}
        | {"peers": {"litserve": "0.2.19", "mosec": "0.9.8"}},
        "rounds": 2,
        "seconds": 2.4,
        "minutes": 13.6,
        "busy_percent": 1.2,
        "servers": {
            "measurements": measurements,
            "starts": [
                {"name": name, "variant": variant, "start_s": 4.5, "memory_mib": 487.3} for name, variant in servers
            ],
        },
        "accuracy": [
            {"variant": "onnx", "images": 200, "top1": 0.915, "same": 1.0},
            {"variant": "int8", "images": 200, "top1": 0.91, "same": 0.995},
        ],
        "decoding": [
            {"megapixels": size, "format": form, "kilobytes": 50 * size, "ms": 5 * size}
            for size, form in itertools.product((0.2, 24), ("baseline", "progressive"))
        ],
        "load_generators": [
            {
                "generator": generator,
                "sent": sent,
                "round": turn,
                "images_per_s": 25.0,
                "p50_ms": p50,
                "outside_ms": 1.0,
            }
            for sent, turn in itertools.product(("images", "pixels"), (0, 1))
            for generator, p50 in (("load test", 41.0), ("perf_analyzer", 40.0 + turn))
        ],
    }
