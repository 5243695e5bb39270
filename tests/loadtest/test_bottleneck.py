"""The message about the bottleneck."""

import pytest
from resnet_loadtest.samples import Status

from .conftest import run_of, samples_of, step_of


@pytest.mark.parametrize(
    ("preprocess", "network", "service_s", "message"),
    [
        ((0.06, 0.0095), (0, 0.005), 0.08, "Decoding: requests wait for preprocess for 75%"),
        ((0, 0.001), (0.06, 0.0095), 0.08, "Compute: requests wait for network_onnx for 75%"),
        ((0, 0.001), (0.06, 0.002), 0.07, "Queueing: requests wait for network_onnx for 86%"),
        (
            (0, 0.001),
            (0, 0.008),
            0.01,
            "None: the server is not saturated; 80% of request time is computing in network",
        ),
        ((0, 0.001), (0.003, 0.0095), 0.014, "Compute: network_onnx is busy 95%"),
        ((0, 0.001), (0, 0.002), 0.01, "Outside the models (70% of request time). Try gRPC"),
    ],
)
def test_bottleneck_names_each(preprocess, network, service_s, message):
    """1000 requests in 10 s; seconds per request in the queue and in the model."""
    steps = {
        name: step_of(name, 1000, queue_s=queue_s, compute_s=compute_s)
        for name, (queue_s, compute_s) in (("preprocess", preprocess), ("network_onnx", network))
    }
    steps["resnet50"] = step_of("resnet50", 1000, compute_s=0.1)
    run = run_of(samples_of([service_s] * 1000, spacing_s=0.0099), steps=steps, ensembles=frozenset({"resnet50"}))
    assert run.bottleneck.startswith(message)


def test_bottleneck_ignores_requests_that_were_refused_later():
    """1000 were decoded, but only 200 answered: the network's full queue refused the others."""
    steps = {
        "preprocess": step_of("preprocess", 1000, compute_s=0.01),
        "network_onnx": step_of("network_onnx", 200, queue_s=6.0, compute_s=3.0, batch=25, failed=800),
    }
    statuses = [Status.OK] * 200 + [Status.OVERLOADED] * 800
    samples = samples_of([9.5] * 1000, statuses=statuses, spacing_s=0.02)
    assert run_of(samples, steps=steps, duration_s=30.0).bottleneck.startswith(
        "Compute: requests wait for network_onnx for 63%"
    )
    assert "no request succeeded" in run_of(samples_of([]), steps={}).bottleneck
