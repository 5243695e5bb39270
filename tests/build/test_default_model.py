"""The network of the default model: within a bound on accuracy, the fastest, and kept by later builds."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
import torch
from resnet_build import BuildError, default_model
from resnet_build.network import Network
from resnet_build.serving_options import AUTO, PLAIN
from resnet_build.validate import Fidelity
from resnet_build.variants import Built

PIXELS = np.zeros((16, 4, 4, 3), dtype=np.uint8)
SLOW_S = 0.03


def network(seconds: float) -> Network:
    """One that takes its time."""

    def run(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        time.sleep(seconds)
        return pixels, pixels

    return run


def built(agreement: float, seconds: float) -> Built:
    """A variant of this agreement and speed."""
    fidelity = Fidelity(64, 50, agreement, 1.0, 0.0, 1.0)
    return Built(Path(), network(seconds), fidelity, {})


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with a CPU only, whose FP32 network takes twice SLOW_S."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(default_model, "open_network", lambda *_: network(2 * SLOW_S))


def test_decide_takes_the_fastest_that_is_close_enough() -> None:
    """A variant beyond the bound is not taken, however fast; the record has every number."""
    made = {"int8": built(0.97, 0), "bf16": built(1.0, SLOW_S)}
    decision = default_model.decide(default_model.Request(AUTO), Path(), made, PIXELS)
    assert decision.variant == "bf16"
    assert "resnet50 → network_bf16 (images/s at batch 8: network_onnx " in str(decision)
    assert "same top-1 as FP32 on 100.0% of 64 images" in str(decision)
    assert decision.record["agreement"] == {"network_int8": 0.97, "network_bf16": 1.0}
    assert decision.record["images_per_s"].keys() == {"network_onnx", "network_bf16"}
    assert decision.record["measured_on"]["batch"] == 8
    assert (
        default_model.decide(default_model.Request(AUTO), Path(), made | {"int8": built(0.99, 0)}, PIXELS).variant
        == "int8"
    )


def test_decide_takes_no_slower_variant() -> None:
    """Being exact is not enough."""
    assert (
        default_model.decide(default_model.Request(AUTO), Path(), {"bf16": built(1.0, 3 * SLOW_S)}, PIXELS).variant
        == PLAIN
    )


def test_decide_keeps_a_decision_while_it_is_close_enough() -> None:
    """A noisy minute must not change the answers of a later build; weights that suit it less must."""
    request = default_model.Request(AUTO, previous="bf16")
    assert request.candidates == ("bf16",)
    kept = default_model.decide(request, Path(), {"bf16": built(1.0, 3 * SLOW_S)}, PIXELS)
    assert kept.variant == "bf16"
    assert "images_per_s" not in kept.record
    assert default_model.decide(request, Path(), {"bf16": built(0.9, 0)}, PIXELS).variant == PLAIN
    assert default_model.decide(default_model.Request(AUTO, previous=PLAIN), Path(), {}, None).variant == PLAIN


def test_decide_does_not_call_the_fp32_network_requested() -> None:
    """A plain build ends in it because nothing was requested."""
    decision = default_model.decide(default_model.Request(PLAIN), Path("model.onnx"), {}, None)
    assert str(decision).endswith("→ network_onnx (the FP32 network; --default-model selects another)")


def test_decide_refuses_a_requested_variant_that_is_not_close() -> None:
    """The bound holds for every request; the message names the way around it."""
    assert default_model.Request("int8").candidates == ("int8",)
    assert (
        default_model.decide(default_model.Request("int8"), Path(), {"int8": built(1.0, 0)}, PIXELS).variant == "int8"
    )
    with pytest.raises(BuildError, match=r"98\.4% of 64 images, and at least 99% is required.*--variant int8"):
        default_model.decide(default_model.Request("int8"), Path(), {"int8": built(63 / 64, 0)}, PIXELS)
    plain = default_model.decide(default_model.Request(PLAIN), Path(), {"int8": built(1.0, 0)}, PIXELS)
    assert (plain.variant, plain.record["requested"]) == (PLAIN, PLAIN)


@pytest.mark.parametrize(("has_bfloat16", "floats"), [(True, "bf16"), (False, "fp32")])
def test_candidates_depend_on_the_processor(monkeypatch: pytest.MonkeyPatch, has_bfloat16: bool, floats: str) -> None:
    """Without bfloat16 `bf16` would compute in 32 bits; requested by name it is built all the same."""
    monkeypatch.setattr(default_model, "has_bfloat16", lambda: has_bfloat16)
    assert default_model.Request(AUTO).candidates == ("int8", floats)
    assert default_model.Request("bf16").candidates == ("bf16",)


def test_decide_takes_the_fp32_network_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its config has KIND_AUTO; nothing needs to be built or measured."""
    assert default_model.Request(AUTO).candidates
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert default_model.Request(AUTO).candidates == ()
    decision = default_model.decide(default_model.Request(AUTO), Path(), {}, None)
    assert (decision.variant, decision.reason) == (PLAIN, "this machine has a GPU")


def test_request_is_what_was_requested_before() -> None:
    """Without the option nothing changes; only ``auto`` again, without --force, keeps what ``auto`` decided."""
    decided = {"default_model": {"requested": AUTO, "network": "network_bf16"}}
    fixed = {"default_model": {"requested": "int8", "network": "network_int8"}}
    for record, option, again, expected in (
        ({}, None, False, default_model.Request(PLAIN)),
        ({}, AUTO, False, default_model.Request(AUTO)),
        (decided, None, False, default_model.Request(AUTO, "bf16")),
        (decided, AUTO, False, default_model.Request(AUTO, "bf16")),
        (decided, None, True, default_model.Request(AUTO)),
        (decided, PLAIN, False, default_model.Request(PLAIN)),
        (fixed, None, False, default_model.Request("int8")),
    ):
        assert default_model.request(record, option, again=again) == expected
