"""Triton's metrics endpoint."""

from resnet_loadtest.server_metrics import parse_values

PAGE = """\
# HELP nv_cpu_utilization CPU utilization rate [0.0 - 1.0]
nv_cpu_utilization 0.75
nv_cpu_memory_used_bytes 2147483648.000000
nv_gpu_utilization{gpu_uuid="GPU-a"} 0.5
nv_gpu_utilization{gpu_uuid="GPU-b"} 0.25
nv_gpu_memory_used_bytes{gpu_uuid="GPU-b"} 1.5e+09
nv_gpu_memory_used_bytes{gpu_uuid="GPU-a"} NaN
nv_inference_request_failure{model="preprocess",reason="REJECTED",version="1"} 3
"""


def test_parse_values_numbers_gpus():
    """Values without and with a GPU; other metrics, and what is not a number, are left out."""
    assert parse_values(PAGE) == {
        "nv_cpu_utilization": 0.75,
        "nv_cpu_memory_used_bytes": 2147483648.0,
        "nv_gpu_utilization 0": 0.5,
        "nv_gpu_utilization 1": 0.25,
        "nv_gpu_memory_used_bytes 1": 1.5e9,
    }
