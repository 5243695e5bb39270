"""Triton's metrics endpoint."""

import math

from hypothesis import example, given
from hypothesis import strategies as st
from resnet_loadtest.server_metrics import parse_failures, parse_values
from strategies import near

PAGE = """\
# HELP nv_cpu_utilization CPU utilization rate [0.0 - 1.0]
nv_cpu_utilization 0.75
nv_cpu_memory_used_bytes 2147483648.000000
nv_gpu_utilization{gpu_uuid="GPU-a"} 0.5
nv_gpu_utilization{gpu_uuid="GPU-b"} 0.25
nv_gpu_memory_used_bytes{gpu_uuid="GPU-b"} 1000
nv_inference_request_failure{model="preprocess",reason="REJECTED",version="1"} 3
nv_inference_request_failure{model="preprocess",reason="REJECTED",version="2"} 4
"""
NAMES = ("nv_cpu_utilization", "nv_gpu_utilization", "nv_inference_request_failure", "model", "reason", "gpu_uuid")
LABELS = st.text(st.characters(exclude_categories=("Cs", "Cc", "Zl", "Zp")), max_size=10)


def test_parse_values_numbers_gpus_and_parse_failures_adds_versions():
    """Values without and with a GPU; failures of several versions add up."""
    assert parse_values(PAGE) == {
        "nv_cpu_utilization": 0.75,
        "nv_cpu_memory_used_bytes": 2147483648.0,
        "nv_gpu_utilization 0": 0.5,
        "nv_gpu_utilization 1": 0.25,
        "nv_gpu_memory_used_bytes 1": 1000.0,
    }
    assert parse_failures(PAGE) == {"preprocess": {"REJECTED": 7}}


@given(near(*NAMES, "{", "}", '="', '"', ",", " ", "NaN", "+Inf", "e", "-", "\\", "\n"))
@example("nv_cpu_utilization 1e")
@example("nv_inference_request_failure{} 1e999")
@example('nv_inference_request_failure{model="a' + '\\"' * 2000)
def test_parsers_survive_any_page(text):
    """Any page gives finite values; what cannot be read is left out."""
    assert all(math.isfinite(value) for value in parse_values(text).values())
    assert all(isinstance(count, int) for counts in parse_failures(text).values() for count in counts.values())


@given(st.dictionaries(LABELS, st.integers(1, 9), max_size=4), st.floats(0, 1))
def test_parsers_understand_escaped_labels(failed, utilization):
    """No model's name changes the counts of another."""
    escaped = {name: name.replace("\\", "\\\\").replace('"', '\\"') for name in failed}
    lines = [
        f'nv_inference_request_failure{{model="{escaped[name]}",reason="OTHER"}} {n}' for name, n in failed.items()
    ]
    text = "\n".join(["# HELP nv_cpu_utilization x", f"nv_cpu_utilization {utilization}", *lines])
    assert parse_values(text) == {"nv_cpu_utilization": utilization}
    assert parse_failures(text) == {name: {"OTHER": n} for name, n in failed.items()}
