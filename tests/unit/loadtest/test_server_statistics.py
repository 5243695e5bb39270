"""The server's statistics and metrics."""

from resnet_client import ModelStatistics
from resnet_loadtest.server_metrics import parse_failures, parse_values
from resnet_loadtest.server_statistics import difference, requests_served

from .conftest import step_of

METRICS = """\
# HELP nv_cpu_utilization CPU utilization rate [0.0 - 1.0]
nv_cpu_utilization 0.75
nv_cpu_memory_used_bytes 2147483648.000000
nv_gpu_utilization{gpu_uuid="GPU-a"} 0.5
nv_gpu_utilization{gpu_uuid="GPU-b"} 0.25
nv_gpu_memory_used_bytes{gpu_uuid="GPU-b"} 1000
nv_inference_request_failure{model="preprocess",reason="REJECTED",version="1"} 3
nv_inference_request_failure{model="preprocess",reason="REJECTED",version="2"} 4
"""


def statistics(model, count, batches, version="1"):
    """Counts; each request took 2 ms, 1 ms of it in the queue."""
    return ModelStatistics(
        model=model,
        model_version=version,
        inference_count=count,
        execution_count=sum(batches.values()),
        success_count=count,
        failure_count=0,
        success_ns=count * 2_000_000,
        failure_ns=0,
        queue_ns=count * 1_000_000,
        compute_input_ns=0,
        compute_infer_ns=count * 1_000_000,
        compute_output_ns=0,
        busy_ns=sum(batches.values()) * 1_000_000,
        batch_sizes=batches,
    )


def test_difference_between_two_reads():
    """Earlier counts are subtracted; idle models are left out; versions add up."""
    before = [statistics("network", 10, {1: 10}), statistics("idle", 5, {1: 5})]
    after = [
        statistics("network", 18, {1: 12, 3: 2}),
        statistics("network", 4, {2: 2}, version="2"),
        statistics("idle", 5, {1: 5}),
    ]
    steps = difference(before, after)
    assert list(steps) == ["network"]
    step = steps["network"]
    assert (step.succeeded, step.executions, dict(step.batch_sizes)) == (12, 6, {1: 2, 2: 2, 3: 2})
    assert (step.mean_queue_s, step.mean_compute_s, step.mean_total_s) == (0.001, 0.001, 0.002)
    assert round(step.busy(0.012), 6) == 0.5  # six batches of a millisecond, however many requests shared them


def test_requests_served_counts_a_step_called_directly_once():
    """10 images through the ensemble and 5 as pixels: 15 requests."""
    steps = {"resnet50": step_of("resnet50", 10), "network_onnx": step_of("network_onnx", 15)}
    assert requests_served(steps, {"resnet50": "", "network_onnx": "resnet50"}) == 15


def test_metrics_of_several_gpus_are_numbered():
    """Values without and with a GPU; failures of several versions add up."""
    assert parse_values(METRICS) == {
        "nv_cpu_utilization": 0.75,
        "nv_cpu_memory_used_bytes": 2147483648.0,
        "nv_gpu_utilization 0": 0.5,
        "nv_gpu_utilization 1": 0.25,
        "nv_gpu_memory_used_bytes 1": 1000.0,
    }
    assert parse_failures(METRICS) == {"preprocess": {"REJECTED": 7}}
