"""The network of the default model: within a bound on accuracy, the fastest, and kept by later builds."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch
from resnet_build import UsageError, default_model
from resnet_build.bound import Accuracy
from resnet_build.default_model import Request
from resnet_build.network import Network
from resnet_build.serving_options import AUTO, PLAIN

BATCH = np.zeros((8, 4, 4, 3), dtype=np.uint8)
SLOW_S = 0.02


def network(seconds: float) -> Network:
    """One that takes its time."""

    def run(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        time.sleep(seconds)
        return pixels, pixels

    return run


def decide(request: Request, candidates: dict[str, tuple[float, float]]) -> default_model.Decision:
    """Decide among candidates of a lower bound and a time; FP32 takes twice SLOW_S."""
    networks = {PLAIN: network(2 * SLOW_S)} | {name: network(seconds) for name, (_, seconds) in candidates.items()}
    accuracies = {name: Accuracy("same top-1", 1.0, at_least) for name, (at_least, _) in candidates.items()}
    return default_model.decide(request, networks, accuracies if request.has_bound else {}, BATCH)


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with a CPU only."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def test_decide_takes_the_fastest_that_is_close_enough() -> None:
    """A variant beyond the bound is not taken, however fast; the record has every number."""
    decision = decide(Request(AUTO), {"int8": (0.9899, 0), "bf16": (0.99, SLOW_S)})
    assert decision.variant == "bf16"
    assert "resnet50 → network_bf16 (images/s at batch 8: network_onnx " in str(decision)
    assert decision.record["accuracy"]["network_int8"] == {"measure": "same top-1", "share": 1.0, "at_least": 0.9899}
    assert decision.record["images_per_s"].keys() == {"network_onnx", "network_bf16"}
    assert decision.record["measured_on"]["batch"] == 8
    assert decide(Request(AUTO), {"int8": (0.9899, 0)}).variant == PLAIN


def test_decide_takes_no_variant_whose_answers_depend_on_the_batch() -> None:
    """An image would get other probabilities under load."""

    def unsteady(pixels: np.ndarray) -> list[np.ndarray]:
        return [np.full((len(pixels), 3), 1 / len(pixels))]

    accuracies = {"int8": Accuracy("same top-1", 1.0, 1.0)}
    decision = default_model.decide(Request(AUTO), {PLAIN: unsteady, "int8": unsteady}, accuracies, BATCH)
    assert decision.variant == PLAIN
    assert decision.reason == "no variant is within the bound and independent of the batch size"


def test_decide_takes_no_slower_variant() -> None:
    """Being exact is not enough."""
    assert decide(Request(AUTO), {"bf16": (1.0, 3 * SLOW_S)}).variant == PLAIN


def test_decide_keeps_a_decision_while_it_is_close_enough() -> None:
    """A noisy minute must not change the answers of a later build; weights that suit it less must."""
    request = Request(AUTO, previous="bf16")
    assert request.candidates == ("bf16",)
    kept = decide(request, {"bf16": (1.0, 3 * SLOW_S)})
    assert kept.variant == "bf16"
    assert "images_per_s" not in kept.record
    assert decide(request, {"bf16": (0.9, 0)}).variant == PLAIN
    assert decide(Request(AUTO, previous=PLAIN), {}).variant == PLAIN


def test_decide_keeps_a_decision_on_labelled_images() -> None:
    """For the same weights, later builds do not need the images; the numbers of the decision stay."""
    kept = decide(Request(AUTO, previous="int8", is_proven=True), {"int8": (0.98, 3 * SLOW_S)})
    assert kept.variant == "int8"
    assert "accuracy" not in kept.record


def test_decide_does_not_call_the_fp32_network_requested() -> None:
    """A plain build ends in it because nothing was requested."""
    decision = decide(Request(PLAIN), {})
    assert str(decision).endswith("→ network_onnx (the FP32 network; --default-model selects another)")


def test_decide_takes_the_variant_that_is_requested_by_name() -> None:
    """The bound is one of ``auto``."""
    assert Request("int8").candidates == ("int8",)
    decision = decide(Request("int8"), {"int8": (0.98, 0)})
    assert (decision.variant, decision.reason, decision.record["requested"]) == ("int8", "as requested", "int8")


@pytest.mark.parametrize(
    ("request_", "count"), [(Request(AUTO), 1000), (Request("int8"), 10), (Request(AUTO, "int8", is_proven=True), 10)]
)
def test_check_samples_refuses_too_few(request_: Request, count: int) -> None:
    """Only where they decide: not if a network is requested by name, or was chosen before."""
    request_.check_samples(count)
    with pytest.raises(UsageError, match=r"at least 1,000 labelled images, and --accuracy-images has 999"):
        Request(AUTO).check_samples(999)


@pytest.mark.parametrize(("has_bfloat16", "floats"), [(True, "bf16"), (False, "fp32")])
def test_candidates_depend_on_the_processor(monkeypatch: pytest.MonkeyPatch, has_bfloat16: bool, floats: str) -> None:
    """Without bfloat16 `bf16` would compute in 32 bits; requested by name it is built all the same."""
    monkeypatch.setattr(default_model, "has_bfloat16", lambda: has_bfloat16)
    assert Request(AUTO).candidates == ("int8", floats)
    assert Request("bf16").candidates == ("bf16",)


def test_decide_takes_the_fp32_network_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its config has KIND_AUTO; nothing needs to be built or measured."""
    assert Request(AUTO).candidates
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert Request(AUTO).candidates == ()
    decision = decide(Request(AUTO), {})
    assert (decision.variant, decision.reason) == (PLAIN, "this machine has a GPU")


def test_request_is_what_was_requested_before() -> None:
    """Without the option nothing changes; only ``auto`` again, without --force, keeps what ``auto`` decided."""
    decided = {"default_model": {"requested": AUTO, "network": "network_bf16"}}
    proven = {"default_model": {"requested": AUTO, "network": "network_int8", "labelled_weights": "abc"}}
    fixed = {"default_model": {"requested": "int8", "network": "network_int8"}}
    for record, option, again, expected in (
        ({}, None, False, Request(PLAIN)),
        ({}, AUTO, False, Request(AUTO)),
        (decided, None, False, Request(AUTO, "bf16")),
        (decided, AUTO, False, Request(AUTO, "bf16")),
        (decided, None, True, Request(AUTO)),
        (decided, PLAIN, False, Request(PLAIN)),
        (fixed, None, False, Request("int8")),
        (proven, AUTO, False, Request(AUTO, "int8", is_proven=True)),
        (proven, AUTO, True, Request(AUTO)),
    ):
        assert default_model.request(record, option, again=again, weights="abc") == expected
    assert default_model.request(proven, AUTO, again=False, weights="other") == Request(AUTO, "int8")
