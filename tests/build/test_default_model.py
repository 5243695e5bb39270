"""The network of the default model: within a bound on accuracy, the fastest, and kept by later builds."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from resnet_build import UsageError, default_model
from resnet_build.bound import Accuracy
from resnet_build.default_model import Decision, Request
from resnet_build.serving_options import AUTO, PLAIN

PIXELS = np.zeros((4, 4, 4, 3), dtype=np.uint8)
SPEEDS = {PLAIN: 10.0, "int8": 30.0, "bf16": 20.0, "fp32": 11.0}


def steady(pixels: np.ndarray) -> list[np.ndarray]:
    """A network whose answers do not depend on the batch."""
    return [pixels.reshape(len(pixels), -1)]


def unsteady(pixels: np.ndarray) -> list[np.ndarray]:
    """A network whose answers depend on the batch."""
    return [np.full((len(pixels), 3), 1 / len(pixels))]


def decide(**is_enough: bool) -> tuple[Decision, list[str]]:
    """Decide among candidates, within the bound or not; also return those whose bound was tested."""
    tested = []

    def accuracy_of(name: str) -> Accuracy:
        tested.append(name)
        return Accuracy("same top-1", 0.99, (0.98, 1.0), is_enough[name])

    return default_model.decide(dict.fromkeys((PLAIN, *is_enough), steady), accuracy_of, PIXELS), tested


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with a CPU only, of known speed."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(default_model, "measure", lambda networks, _: {name: SPEEDS[name] for name in networks})


@pytest.mark.parametrize(
    ("candidates", "chosen", "tested"),
    [
        ({"bf16": True, "int8": True}, "int8", ["int8"]),
        ({"int8": False, "bf16": True}, "bf16", ["int8", "bf16"]),
        ({"int8": False, "fp32": True}, "fp32", ["int8"]),  # FP32 has nothing to lose
        ({"int8": False}, PLAIN, ["int8"]),
    ],
)
def test_decide_takes_the_fastest_within_the_bound(candidates: dict[str, bool], chosen: str, tested: list[str]) -> None:
    """The bound is tested from the fastest one on, until one is within it; the record has every number."""
    decision, found = decide(**candidates)
    assert (decision.variant, found) == (chosen, tested)
    assert f"resnet50 → network_{chosen} (images/s at batch 8: network_onnx 10.0, " in str(decision)
    assert decision.reason.endswith("independent of the batch size") == (chosen == PLAIN)
    assert decision.record["accuracy"].keys() == {f"network_{name}" for name in tested}
    assert decision.record["images_per_s"].keys() == {"network_onnx", *(f"network_{name}" for name in candidates)}
    assert decision.record["measured_on"]["batch"] == 8


def test_decide_takes_no_variant_whose_answers_depend_on_the_batch() -> None:
    """An image would get other probabilities under load."""
    decision = default_model.decide({PLAIN: unsteady, "int8": unsteady}, pytest.fail, PIXELS)
    assert decision.variant == PLAIN


def test_decide_takes_no_slower_variant(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bound of a candidate that cannot win is not tested."""
    monkeypatch.setitem(SPEEDS, "bf16", 9.0)
    decision, tested = decide(bf16=True)
    assert (decision.variant, tested) == (PLAIN, [])


@pytest.mark.parametrize(
    ("request_", "chosen", "reason"),
    [
        (Request(PLAIN), PLAIN, "the FP32 network; --default-model selects another"),
        (Request("int8"), "int8", "as requested"),
        (Request(AUTO, PLAIN), PLAIN, "chosen by an earlier build; --force chooses again"),
        (Request(AUTO, "int8"), "int8", "chosen by an earlier build; --force chooses again"),
        (Request(AUTO), PLAIN, "this machine has a GPU"),
    ],
)
def test_settled_needs_no_measurement(
    monkeypatch: pytest.MonkeyPatch, request_: Request, chosen: str, reason: str
) -> None:
    """A network requested by name, the earlier choice for the same weights, or a GPU, decides."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert not request_.has_bound
    decision = default_model.settled(request_)
    assert (decision.variant, decision.reason) == (chosen, reason)
    assert decision.record["requested"] == request_.requested
    assert "accuracy" not in decision.record


@pytest.mark.parametrize(
    ("request_", "count"), [(Request(AUTO), 1000), (Request("int8"), 10), (Request(AUTO, "int8"), 10)]
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


def test_request_is_what_was_requested_before() -> None:
    """Without the option nothing changes; ``auto`` chooses again for other weights, or with --force."""
    decided = {"default_model": {"requested": AUTO, "network": "network_bf16", "weights": "abc"}}
    fixed = {"default_model": {"requested": "int8", "network": "network_int8", "weights": "abc"}}
    for record, option, again, weights, expected in (
        ({}, None, False, "abc", Request(PLAIN)),
        ({}, AUTO, False, "abc", Request(AUTO)),
        (decided, None, False, "abc", Request(AUTO, "bf16")),
        (decided, AUTO, False, "abc", Request(AUTO, "bf16")),
        (decided, None, False, "other", Request(AUTO)),
        (decided, None, True, "abc", Request(AUTO)),
        (decided, PLAIN, False, "abc", Request(PLAIN)),
        (fixed, None, False, "abc", Request("int8")),
    ):
        assert default_model.request(record, option, again=again, weights=weights) == expected
