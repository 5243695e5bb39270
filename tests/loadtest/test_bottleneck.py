"""The message about the bottleneck."""

import pytest
from resnet_loadtest.bottleneck import describe

from .conftest import step_of


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
def test_describe_names_each_bottleneck(preprocess, network, service_s, message):
    """1000 requests in 10 s; seconds per request in the queue and in the model."""
    steps = {
        name: step_of(name, 1000, queue_s=queue_s, compute_s=compute_s)
        for name, (queue_s, compute_s) in (("preprocess", preprocess), ("network_onnx", network))
    }
    steps["resnet50"] = step_of("resnet50", 1000, compute_s=0.1)
    found = describe(steps, {"resnet50"}, answered=1000, service_s=service_s, wall_s=10.0)
    assert found.startswith(message)


def test_describe_ignores_requests_that_were_refused_later():
    """1000 were decoded, but only 200 answered: the network's full queue refused the others."""
    steps = {
        "preprocess": step_of("preprocess", 1000, compute_s=0.01),
        "network_onnx": step_of("network_onnx", 200, queue_s=6.0, compute_s=3.0, batch=25, failed=800),
    }
    found = describe(steps, set(), answered=200, service_s=9.5, wall_s=30.0)
    assert found.startswith("Compute: requests wait for network_onnx for 63%")
    assert "no request succeeded" in describe({}, set(), answered=0, service_s=float("nan"), wall_s=1.0)
