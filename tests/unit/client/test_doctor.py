"""The doctor's checks: each finds the fault that was put into a healthy snapshot, and no other check does."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from resnet_client import ModelStatistics
from resnet_client._doctor import CHECKS, Snapshot, examine
from resnet_client._doctor._snapshot import Answered, Batching, LargeRequest, Metrics, Model, Tensor, Trial, Unloaded
from resnet_client._photo import Recipe
from resnet_client.endpoints import Endpoint
from resnet_client.errors import InvalidImageError, OverloadedError, RequestError, ResponseError

PAGE = Path(__file__).resolve().parents[3] / "docs/doctor.md"
URL = "grpc://127.0.0.1:8001"
RECIPE = Recipe(resize=256, crop=224)
PARAMETERS = {"recipe": RECIPE.to_json(), "recipe_sha256": RECIPE.sha256}
LIMITS = {"max_photo_bytes": "33554432", "max_photo_pixels": "89478485", "max_photo_frames": "1000"}
DOOR = {"max_backlog": "64", "max_wait_ms": "10000"}
QUEUE = Batching(max_delay_us=1000, preferred=(32,))
IMAGE = Tensor("IMAGE", "TYPE_STRING", (1,))
PIXELS = Tensor("PIXELS__0", "TYPE_UINT8", (224, 224, 3))
PROBABILITIES = Tensor("PROBABILITIES__0", "TYPE_FP32", (1000,), "labels.txt")


def statistics(model: str, **changes: Any) -> ModelStatistics:
    """Counts of a model that does well."""
    counts = {
        "inference_count": 4000,
        "execution_count": 1000,
        "success_count": 4000,
        "failure_count": 20,
        "success_ns": 4000 * 50_000_000,
        "failure_ns": 0,
        "queue_ns": 4000 * 10_000_000,
        "compute_input_ns": 0,
        "compute_infer_ns": 4000 * 40_000_000,
        "compute_output_ns": 0,
        "batch_sizes": {1: 100, 4: 900},
    }
    nothing = {field.name: 0 for field in dataclasses.fields(ModelStatistics)}
    return ModelStatistics(**(nothing | counts | {"model": model, "model_version": "1"} | changes))


def models() -> dict[str, Model]:
    """The default repository, as it is served on a CPU."""
    preprocess = Model(
        "preprocess",
        backend="python",
        max_batch_size=32,
        batching=Batching(preferred=(1,)),  # as resnet-build writes it: one photo after the other
        cpu_instances=1,
        parameters=PARAMETERS | LIMITS | DOOR,
        inputs=(IMAGE,),
        outputs=(PIXELS,),
    )
    network = Model(
        "network_onnx",
        versions=(1, 2),
        backend="onnxruntime",
        max_batch_size=32,
        batching=QUEUE,
        cpu_instances=1,
        parameters=PARAMETERS,
        warmed=(1, 2, 4, 8, 16, 32),
        inputs=(PIXELS,),
        outputs=(PROBABILITIES,),
    )
    ensemble = Model(
        "resnet50",
        backend="ensemble",
        max_batch_size=32,
        parameters=PARAMETERS,
        inputs=(IMAGE,),
        outputs=(PROBABILITIES,),
        steps={"preprocess": -1, "network_onnx": -1},
    )
    return {model.name: model for model in (preprocess, network, ensemble)}


def healthy() -> Snapshot:
    """A server where all is well and everything can be seen."""
    return Snapshot(
        endpoint=Endpoint.parse(URL),
        model="resnet50",
        version="2.51.0",
        models=models(),
        trials={"resnet50": Trial(True, Answered((285,)), 32, Answered((285,) * 32))},
        large_request=LargeRequest(8 * 2**20),
        statistics=(statistics("network_onnx"), statistics("preprocess"), statistics("resnet50", batch_sizes={})),
        unloaded=(),
        open_apis=dict.fromkeys(("model-repository", "shared-memory", "trace", "logging", "statistics"), False),
        metrics=Metrics(frozenset({"nv_inference_request_success"}), frozenset(models())),
        metrics_url="http://127.0.0.1:8002/metrics",
        cores=4,
    )


def seen(**changes: Any) -> Snapshot:
    """The healthy server with attributes changed."""
    return dataclasses.replace(healthy(), **changes)


def with_model(name: str, **changes: Any) -> Snapshot:
    """The healthy server with one model changed."""
    return seen(models=models() | {name: dataclasses.replace(models()[name], **changes)})


def with_queue(**changes: Any) -> Snapshot:
    """The healthy server with the network's batching changed."""
    return with_model("network_onnx", batching=dataclasses.replace(QUEUE, **changes))


def without_door(**changes: Any) -> Snapshot:
    """A server where nobody counts what waits, so that the queues need policies; the network's is changed."""
    policy = Batching(preferred=(32,), queue_size=64, queue_timeout_us=10_000_000, honours_timeout=True)
    loaded = healthy().models or {}
    preprocess = dataclasses.replace(loaded["preprocess"], parameters=PARAMETERS | LIMITS, batching=policy)
    network = dataclasses.replace(loaded["network_onnx"], batching=dataclasses.replace(policy, **changes))
    return seen(models=loaded | {"preprocess": preprocess, "network_onnx": network})


def with_trial(**changes: Any) -> Snapshot:
    """The healthy server with other answers to the test pictures."""
    trial = healthy().trials["resnet50"]
    return seen(trials={"resnet50": dataclasses.replace(trial, **changes)})


def with_counts(model: str = "network_onnx", **changes: Any) -> Snapshot:
    """The healthy server with other counts of one model."""
    return seen(statistics=(statistics(model, **changes),))


def with_wait(wait_ms: int) -> Snapshot:
    """The healthy server, whose requests take 50 ms, with the first step quick but for its queue."""
    queue_ns, success_ns = 4000 * wait_ms * 1_000_000, 4000 * (wait_ms + 4) * 1_000_000
    return seen(
        statistics=(
            statistics("preprocess", queue_ns=queue_ns, success_ns=success_ns),
            statistics("resnet50", queue_ns=0, batch_sizes={}),
        )
    )


def with_open(api: str) -> Snapshot:
    """The healthy server with one interface open."""
    return seen(open_apis=healthy().open_apis | {api: True})


OTHER_RECIPE = Recipe(resize=232, crop=224)

FAULTS: dict[str, list[tuple[str, Callable[[], Snapshot]]]] = {
    "not-ready": [
        (URL, lambda: seen(is_ready=False)),
        ("resnet50", lambda: with_trial(is_flagged_ready=False)),
        ("resnet34", lambda: seen(model="resnet34")),
    ],
    "readiness-lies": [
        ("resnet50", lambda: with_trial(single=ResponseError("Stub process is not healthy"), batch=None))
    ],
    "overloaded": [("resnet50", lambda: with_trial(single=OverloadedError("Exceeds maximum queue size"), batch=None))],
    "batch-fails": [
        ("resnet50", lambda: with_trial(batch=ResponseError("Got invalid dimensions"))),
        ("resnet50", lambda: with_trial(batch=Answered((285,)))),
    ],
    "batch-differs": [("resnet50", lambda: with_trial(batch=Answered((285,) * 31 + (7,))))],
    "large-photos-fail": [
        (URL, lambda: seen(large_request=LargeRequest(2**23, RequestError("413 Request Entity Too Large"))))
    ],
    "version-unknown": [(URL, lambda: seen(version="2.40.0")), (URL, lambda: seen(version="3.0.0"))],
    "no-metrics": [
        ("http://127.0.0.1:8002/metrics", lambda: seen(metrics=None)),
        ("http://127.0.0.1:8002/metrics", lambda: seen(metrics=Metrics(frozenset()))),
    ],
    "mostly-waiting": [
        ("network_onnx", lambda: with_counts(queue_ns=4000 * 30_000_000)),
        ("preprocess", lambda: with_wait(30)),
    ],
    "never-batched": [
        ("network_onnx", lambda: with_counts(batch_sizes={1: 3999, 32: 1}, compute_infer_ns=4000 * 5_000_000))
    ],
    "many-failures": [
        ("network_onnx", lambda: with_counts(failure_count=400)),
        ("resnet50", lambda: with_counts("resnet50", failure_count=800, batch_sizes={})),
    ],
    "photos-do-not-batch": [
        ("preprocess", lambda: with_model("preprocess", inputs=(Tensor("IMAGE", "TYPE_UINT8", (-1,)),)))
    ],
    "pixels-as-floats": [
        ("network_onnx", lambda: with_model("network_onnx", inputs=(Tensor("PIXELS__0", "TYPE_FP32", (3, 224, 224)),)))
    ],
    "recipe-missing": [("network_onnx", lambda: with_model("network_onnx", parameters={}))],
    "recipe-damaged": [
        (
            "preprocess",
            lambda: with_model("preprocess", parameters=PARAMETERS | LIMITS | DOOR | {"recipe_sha256": "0"}),
        ),
    ],
    "recipes-differ": [
        (
            "resnet50",
            lambda: with_model(
                "network_onnx", parameters={"recipe": OTHER_RECIPE.to_json(), "recipe_sha256": OTHER_RECIPE.sha256}
            ),
        )
    ],
    "no-photo-limits": [("preprocess", lambda: with_model("preprocess", parameters=PARAMETERS | DOOR))],
    "no-label-file": [
        ("resnet50", lambda: with_model("resnet50", outputs=(dataclasses.replace(PROBABILITIES, label_file=""),)))
    ],
    "labels-incomplete": [("resnet50", lambda: with_trial(single=Answered((285,), unlabelled=10)))],
    "version-pinned": [("resnet50", lambda: with_model("resnet50", steps={"preprocess": -1, "network_onnx": 1}))],
    "many-versions": [("network_onnx", lambda: with_model("network_onnx", versions=(1, 2, 3)))],
    "version-not-loaded": [("network_onnx", lambda: seen(unloaded=(Unloaded("network_onnx", "3", "damaged"),)))],
    "no-batching": [("network_onnx", lambda: with_model("network_onnx", max_batch_size=0, batching=None))],
    "no-dynamic-batching": [("network_onnx", lambda: with_model("network_onnx", batching=None))],
    "queue-without-limit": [("network_onnx", lambda: without_door(queue_size=0))],
    "queue-without-timeout": [("network_onnx", lambda: without_door(queue_timeout_us=0))],
    "queue-policy": [
        ("network_onnx", lambda: with_queue(queue_size=64)),
        ("network_onnx", lambda: with_queue(queue_timeout_us=1)),
        ("network_onnx", lambda: with_queue(honours_timeout=True)),
    ],
    "queue-delays": [("network_onnx", lambda: with_queue(delays=True))],
    "deadline-ignored": [("network_onnx", lambda: without_door(honours_timeout=False))],
    "long-delay": [("network_onnx", lambda: with_queue(max_delay_us=500_000))],
    "preferred-batch-size": [
        (
            "network_onnx",
            lambda: with_model("network_onnx", batching=dataclasses.replace(QUEUE, preferred=(2, 4)), gpu_instances=1),
        )
    ],
    "preserve-ordering": [("network_onnx", lambda: with_queue(preserves_order=True))],
    "threads-unset": [("network_onnx", lambda: with_model("network_onnx", cpu_instances=2))],
    "threads-exceed-cores": [
        (
            "network_onnx",
            lambda: with_model("network_onnx", cpu_instances=2, parameters=PARAMETERS | {"intra_op_thread_count": "4"}),
        )
    ],
    "preprocess-instances": [("preprocess", lambda: with_model("preprocess", cpu_instances=5))],
    "no-warmup": [("network_onnx", lambda: with_model("network_onnx", warmed=()))],
    "warmup-incomplete": [("network_onnx", lambda: with_model("network_onnx", warmed=(1, 2), gpu_instances=1))],
    "response-cache": [("resnet50", lambda: with_model("resnet50", caches=True))],
    "gpu-idle": [("network_onnx", lambda: seen(metrics=Metrics(frozenset({"nv_gpu_utilization"}))))],
    "plaintext": [("http://10.0.0.7:8000", lambda: seen(endpoint=Endpoint.parse("http://10.0.0.7:8000")))],
    "token-refused": [(URL, lambda: seen(token_refused=True))],
    "control-open": [(URL, lambda: with_open("model-repository"))],
    "shared-memory-open": [(URL, lambda: with_open("shared-memory"))],
    "trace-open": [(URL, lambda: with_open("trace"))],
    "logging-open": [(URL, lambda: with_open("logging"))],
    "statistics-open": [(URL, lambda: with_open("statistics"))],
}
CASES = [pytest.param(name, *case, id=name) for name, cases in FAULTS.items() for case in cases]


def test_silent_where_all_is_well() -> None:
    """Every check looks, and none finds anything."""
    examination = examine(healthy())
    assert (examination.findings, examination.unchecked) == ((), {})
    assert set(examination.clean) == {check.name for check in CHECKS}


@pytest.mark.parametrize(("name", "subject", "make"), CASES)
def test_finds_what_was_seeded(name: str, subject: str, make: Callable[[], Snapshot]) -> None:
    """One fault, one finding, at the right place."""
    findings = examine(make()).findings
    assert [(finding.check, finding.subject) for finding in findings] == [(name, subject)]
    assert findings[0].what
    assert findings[0].remedy


def test_too_little_shared_memory_is_named_beside_what_it_breaks() -> None:
    """It shows as a failed request whose sentence speaks of shared memory."""
    error = ResponseError("Failed to increase the shared memory pool size")
    findings = examine(with_trial(batch=error)).findings
    assert [finding.check for finding in findings] == ["batch-fails", "shm-too-small"]


def test_every_check_has_a_case_and_a_name_of_its_own() -> None:
    """The table of faults holds all checks, and names are unique."""
    names = [check.name for check in CHECKS]
    assert len(set(names)) == len(names) >= 15
    assert {*FAULTS, "shm-too-small"} == set(names)


def test_the_page_lists_all_checks() -> None:
    """docs/doctor.md has one line for each check."""
    rows = re.findall(r"^\| `([a-z-]+)` \| (wrong|slow|exposed) \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert rows == [(check.name, check.kind) for check in CHECKS]


@pytest.mark.parametrize(
    "attribute", ["models", "trials", "statistics", "unloaded", "open_apis", "metrics", "cores", "version"]
)
def test_what_cannot_be_seen_is_not_checked(attribute: str) -> None:
    """It is said so, with the reason, and is no finding."""
    examination = examine(seen(**{attribute: None}, metrics_url="", unseen={attribute: "closed"}))
    assert examination.findings == ()
    assert set(examination.unchecked.values()) == {"closed"}


LONELY = {"batch_sizes": {1: 4000}, "compute_infer_ns": 4000 * 5_000_000}


@pytest.mark.parametrize(
    "make",
    [
        lambda: with_counts("preprocess", **LONELY),
        lambda: dataclasses.replace(with_counts(**LONELY), models=with_queue(preferred=(1,)).models),
        lambda: dataclasses.replace(
            with_counts(**LONELY), models=with_model("network_onnx", max_batch_size=1, batching=None).models
        ),
        lambda: dataclasses.replace(with_counts(**LONELY), models=with_model("network_onnx", batching=None).models),
    ],
    ids=["preprocess", "preferred size of 1", "no batch dimension", "no dynamic batching"],
)
def test_photos_computed_alone_as_configured_are_no_failure_of_batching(make: Callable[[], Snapshot]) -> None:
    """Who wants one photo at a time gets it; that batching is left out is for other checks to say."""
    assert "never-batched" not in {finding.check for finding in examine(make()).findings}


@pytest.mark.parametrize(
    ("changes", "url"),
    [
        ({"endpoint": Endpoint.parse("grpcs://10.0.0.7:8001")}, "TLS"),
        ({"endpoint": Endpoint.parse("http://localhost:8000")}, "this machine"),
        ({"endpoint": Endpoint.parse("http://[::1]:8000")}, "this machine, IPv6"),
        ({"large_request": LargeRequest(2**23, InvalidImageError("too large", source=""))}, "it came through"),
        ({"statistics": with_wait(17).statistics}, "a short wait before a short step"),
        ({"statistics": (statistics("network_onnx", success_count=10, failure_count=10),)}, "too few to tell"),
    ],
)
def test_no_false_alarm(changes: dict[str, Any], url: str) -> None:
    """What looks like a fault and is none."""
    assert examine(seen(**changes)).findings == ()


def test_an_ignored_check_is_left_out() -> None:
    """And listed as such."""
    examination = examine(seen(is_ready=False), ignored=["not-ready"])
    assert examination.findings == ()
    assert examination.unchecked == {"not-ready": "ignored, as asked"}
