"""One sentence on what limits."""

import pytest
from resnet_loadtest.bottleneck import sentence

from .conftest import step_of

ENSEMBLE = {"resnet50": step_of("resnet50", 1000, compute_s=0.1)}


@pytest.mark.parametrize(
    ("preprocess", "network", "service_s", "said"),
    [
        ({"queue_s": 0.06, "compute_s": 0.0095}, {"compute_s": 0.005}, 0.08, "Decode-bound"),
        ({"compute_s": 0.001}, {"queue_s": 0.06, "compute_s": 0.0095}, 0.08, "Compute-bound"),
        ({"compute_s": 0.001}, {"queue_s": 0.06, "compute_s": 0.002}, 0.07, "Queueing"),
        ({"compute_s": 0.001}, {"compute_s": 0.008}, 0.01, "Nothing is saturated"),
        (
            {"compute_s": 0.001},
            {"queue_s": 0.003, "compute_s": 0.0095},
            0.014,
            "Compute-bound: network_onnx is busy 95%",
        ),
        ({"compute_s": 0.001}, {"compute_s": 0.002}, 0.01, "The way limits"),
    ],
)
def test_each_limit_is_named(preprocess, network, service_s, said):
    """1000 requests in 10 s, times per request."""
    steps = ENSEMBLE | {
        "preprocess": step_of("preprocess", 1000, **preprocess),
        "network_onnx": step_of("network_onnx", 1000, **network),
    }
    found = sentence(steps, {"resnet50"}, answered=1000, service_s=service_s, wall_s=10.0)
    assert found.startswith(said)


def test_batches_are_not_counted_once_per_request():
    """Ten requests that share a batch of 80 ms keep the model busy for 80 ms."""
    step = step_of("network_onnx", 1000, compute_s=0.08, batch=10)
    assert step.busy(10.0) == pytest.approx(0.8)


def test_requests_that_were_lost_on_the_way_blur_nothing():
    """1000 were decoded, but only 200 answered: the others were refused by the network's full queue."""
    steps = {
        "preprocess": step_of("preprocess", 1000, compute_s=0.01),
        "network_onnx": step_of("network_onnx", 200, queue_s=6.0, compute_s=3.0, batch=25, failed=800),
    }
    found = sentence(steps, set(), answered=200, service_s=9.5, wall_s=30.0)
    assert found.startswith("Compute-bound: 63%")


def test_without_answers_nothing_is_claimed():
    """No times, no limit."""
    assert "nothing can be said" in sentence({}, set(), answered=0, service_s=float("nan"), wall_s=1.0)
