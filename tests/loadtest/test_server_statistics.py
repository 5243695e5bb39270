"""What models did between two reads of the statistics."""

import dataclasses

from resnet_client import ModelStatistics
from resnet_loadtest.server_statistics import difference


def statistics(model, count, batches, version="1"):
    """Counts; each request took 2 ms, 1 ms of it in the queue."""
    counts = dict.fromkeys((field.name for field in dataclasses.fields(ModelStatistics)), 0)
    counts |= dict.fromkeys(("inference_count", "success_count"), count)
    counts |= {"success_ns": 2_000_000 * count, "queue_ns": 1_000_000 * count, "compute_infer_ns": 1_000_000 * count}
    counts |= {"execution_count": sum(batches.values()), "busy_ns": 1_000_000 * sum(batches.values())}
    return ModelStatistics(**counts | {"model": model, "model_version": version, "batch_sizes": batches})


def test_difference_subtracts_and_adds_versions_up():
    """Earlier counts are subtracted, but those of a version that is gone; idle models are left out."""
    before = [
        statistics("network", 10, {1: 10}),
        statistics("network", 7, {1: 7}, version="0"),
        statistics("idle", 5, {1: 5}),
    ]
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
