"""What the default door ends in: a bound on accuracy first, speed second, and no surprise later."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from resnet_build import door, pipeline, variants
from resnet_build.accuracy import Fidelity
from resnet_build.engines import Network
from resnet_build.errors import BuildError
from resnet_build.options import AUTO, PLAIN, ServingOptions
from resnet_build.pipeline import BuildOptions
from resnet_build.quantize.calibration import CalibrationSet
from resnet_build.variants import Built
from resnet_build.weights import FileOptions

PIXELS = np.zeros((16, 4, 4, 3), dtype=np.uint8)
SLOW_S = 0.03


def network(seconds: float) -> Network:
    """One that takes its time."""

    def run(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        time.sleep(seconds)
        return pixels, pixels

    return run


def built(agreement: float, seconds: float) -> Built:
    """A variant of this closeness and speed."""
    fidelity = Fidelity(64, 50, agreement, 1.0, 0.0, 1.0)
    return Built(Path(), network(seconds), fidelity, {})


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with a CPU only, whose float network takes twice SLOW_S."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(door, "open_network", lambda *_: network(2 * SLOW_S))


def test_the_fastest_that_is_close_enough_is_taken() -> None:
    """A variant beyond the bound is not, however fast; the record has every figure."""
    made = {"int8": built(0.97, 0), "bf16": built(1.0, SLOW_S)}
    decision = door.decide(door.Wish(AUTO), Path(), made, PIXELS)
    assert decision.variant == "bf16"
    assert "resnet50 ends in network_bf16" in str(decision)
    assert "its top-1 is the float network's on 100.0% of 64 photos" in str(decision)
    assert decision.record["agreement"] == {"network_int8": 0.97, "network_bf16": 1.0}
    assert decision.record["photos_per_s"].keys() == {"network_onnx", "network_bf16"}
    assert decision.record["measured_on"]["batch"] == 8
    assert door.decide(door.Wish(AUTO), Path(), made | {"int8": built(0.99, 0)}, PIXELS).variant == "int8"


def test_a_slower_variant_stays_behind_the_float_network() -> None:
    """Being exact is not enough."""
    assert door.decide(door.Wish(AUTO), Path(), {"bf16": built(1.0, 3 * SLOW_S)}, PIXELS).variant == PLAIN


def test_a_decision_stays_while_it_is_close_enough() -> None:
    """A noisy minute must not change the answers of a later build; weights that suit it less must."""
    wish = door.Wish(AUTO, previous="bf16")
    assert wish.candidates == ("bf16",)
    kept = door.decide(wish, Path(), {"bf16": built(1.0, 3 * SLOW_S)}, PIXELS)
    assert kept.variant == "bf16"
    assert "photos_per_s" not in kept.record
    assert door.decide(wish, Path(), {"bf16": built(0.9, 0)}, PIXELS).variant == PLAIN
    assert door.decide(door.Wish(AUTO, previous=PLAIN), Path(), {}, None).variant == PLAIN


def test_the_float_network_is_not_said_to_be_asked_for() -> None:
    """A plain build ends in it because nothing was asked for."""
    decision = door.decide(door.Wish(PLAIN), Path("model.onnx"), {}, None)
    assert str(decision).endswith("ends in network_onnx: the float network, unless --door says otherwise")


def test_what_is_asked_for_must_be_close_enough() -> None:
    """The bound is a gate for everybody, and the way around it is told."""
    assert door.Wish("int8").candidates == ("int8",)
    assert door.decide(door.Wish("int8"), Path(), {"int8": built(1.0, 0)}, PIXELS).variant == "int8"
    with pytest.raises(BuildError, match=r"98\.4% of 64 photos, and 99% is the least.*--variant int8"):
        door.decide(door.Wish("int8"), Path(), {"int8": built(63 / 64, 0)}, PIXELS)
    plain = door.decide(door.Wish(PLAIN), Path(), {"int8": built(1.0, 0)}, PIXELS)
    assert (plain.variant, plain.record["requested"]) == (PLAIN, PLAIN)


@pytest.mark.parametrize(("has_bfloat16", "floats"), [(True, "bf16"), (False, "fp32")])
def test_a_processor_without_bfloat16_has_another_candidate(
    monkeypatch: pytest.MonkeyPatch, has_bfloat16: bool, floats: str
) -> None:
    """There `bf16` would compute in 32 bits and say otherwise; asked for by name it is built all the same."""
    monkeypatch.setattr(door, "has_bfloat16", lambda: has_bfloat16)
    assert door.Wish(AUTO).candidates == ("int8", floats)
    assert door.Wish("bf16").candidates == ("bf16",)


def test_a_gpu_gets_the_float_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its configuration says KIND_AUTO; nothing needs to be built or measured."""
    assert door.Wish(AUTO).candidates
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert door.Wish(AUTO).candidates == ()
    decision = door.decide(door.Wish(AUTO), Path(), {}, None)
    assert (decision.variant, decision.reason) == (PLAIN, "this machine has a GPU")


def test_later_builds_ask_for_what_was_asked_for(tmp_path: Path) -> None:
    """Without the option nothing changes; only ``auto`` again, without --force, keeps what ``auto`` decided."""
    decided = {"door": {"requested": AUTO, "network": "network_bf16"}}

    def wish(record: dict[str, Any], **options: Any) -> door.Wish:
        serving = ServingOptions()
        return pipeline._wish(BuildOptions("random:0", FileOptions(), serving, tmp_path, tmp_path, **options), record)

    assert wish({}) == door.Wish(PLAIN)
    assert wish({}, door=AUTO) == door.Wish(AUTO)
    assert wish(decided) == wish(decided, door=AUTO) == door.Wish(AUTO, "bf16")
    assert wish(decided, force=True) == door.Wish(AUTO)
    assert wish(decided, door=PLAIN) == door.Wish(PLAIN)
    assert wish({"door": {"requested": "int8", "network": "network_int8"}}) == door.Wish("int8")


@pytest.mark.parametrize("is_required", [True, False])
def test_a_candidate_that_differs_too_much_is_left_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, is_required: bool
) -> None:
    """It fails the build only if somebody asked for it by name."""

    def make(name: str, *_: object) -> Built:
        if name == "bf16":
            raise BuildError("the variant bf16 differs too much")
        (tmp_path / name / variants.FILENAME).write_bytes(b"")
        return built(1.0, SLOW_S)

    monkeypatch.setattr(variants, "_build", make)
    monkeypatch.setattr(variants, "open_network", lambda *_: network(0))
    monkeypatch.setattr(variants, "predict", lambda *_: (PIXELS, PIXELS))
    images = CalibrationSet("nowhere", PIXELS, PIXELS)
    said: list[str] = []
    wanted = {"int8": False, "bf16": is_required}
    if is_required:
        with pytest.raises(BuildError, match="too much"):
            variants.build(wanted, tmp_path / "float.onnx", images, tmp_path, said.append)
    else:
        assert variants.build(wanted, tmp_path / "float.onnx", images, tmp_path, said.append).keys() == {"int8"}
        assert said[-1] == "left out: the variant bf16 differs too much"
