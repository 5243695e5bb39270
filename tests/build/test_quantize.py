"""The steps of quantisation, on a network small enough to compute by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from resnet_build import BuildError
from resnet_build.quantize import fp16, int8
from resnet_build.quantize.activations import measure
from resnet_build.quantize.graph import Graph
from resnet_build.quantize.int8 import equalise, fold_normalisation, scales_of
from resnet_client.requests import FEATURES, PIXELS, PROBABILITIES

NO_PIXELS = np.zeros((0, 12, 12, 3), dtype=np.uint8)


def run(model: onnx.ModelProto | Path, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities and features."""
    source = str(model) if isinstance(model, Path) else model.SerializeToString()
    session = onnxruntime.InferenceSession(source, providers=["CPUExecutionProvider"])
    return tuple(session.run([PROBABILITIES, FEATURES], {PIXELS: pixels}))


def test_own_constants_gives_each_node_its_own(small_network: Path, pixels: np.ndarray, tmp_path: Path) -> None:
    """Exporters share equal constants; changing one layer must not change another."""
    model = onnx.load(small_network)
    first, second = Graph(model).of_type("Conv")
    second.input[2] = first.input[2]
    for missing in (False, True):
        if missing:
            del first.input[2]
        before = run(model, pixels)
        graph = Graph(onnx.ModelProto.FromString(model.SerializeToString()))
        graph.own_constants("Conv")
        names = [name for node in graph.of_type("Conv") for name in node.input[1:]]
        assert len(names) == len(set(names)) == 4
        np.testing.assert_array_equal(run(graph.model, pixels)[1], before[1])
        onnx.save(model, tmp_path / "sparing.onnx")
        int8.convert(tmp_path / "sparing.onnx", tmp_path / "int8.onnx", pixels)


def test_convert_leaves_a_head_of_several_layers_as_it_is(
    small_network: Path, pixels: np.ndarray, tmp_path: Path
) -> None:
    """After the pooling, a ReLU has no channels at positions; all nodes after it stay FP32."""
    model = onnx.load(small_network)
    softmax = model.graph.node[-1]
    softmax.input[0] = "hidden"
    model.graph.node.insert(len(model.graph.node) - 1, onnx.helper.make_node("Relu", ["logits"], ["hidden"], "relu3"))
    onnx.save(model, tmp_path / "head.onnx")
    int8.convert(tmp_path / "head.onnx", tmp_path / "int8.onnx", pixels)
    got, expected = run(tmp_path / "int8.onnx", pixels), run(tmp_path / "head.onnx", pixels)
    assert np.abs(got[0] - expected[0]).max() < 0.1
    assert [node.op_type for node in onnx.load(tmp_path / "int8.onnx").graph.node][-4:] == [
        "ReduceMean", "Gemm", "Relu", "Softmax",
    ]  # fmt: skip


def test_equalise_changes_ranges_and_no_answers(small_network: Path, pixels: np.ndarray) -> None:
    """The channels with the largest and smallest values come closer; the network computes the same."""
    graph = Graph(onnx.load(small_network))
    fold_normalisation(graph)
    assert not graph.of_type("Div")
    before = measure(graph, pixels)
    after = equalise(graph, before)
    spread = [float(np.ptp(np.log(found["relu1"].highest))) for found in (before, after)]
    assert spread[1] < 0.8 * spread[0]
    # The ranges after it are computed, not measured again.
    np.testing.assert_allclose(after["relu1"].highest, measure(graph, pixels)["relu1"].highest, rtol=1e-4)
    for got, expected in zip(run(graph.model, pixels), run(small_network, pixels), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-4)


def test_int8_keeps_the_contract(small_network: Path, pixels: np.ndarray, tmp_path: Path) -> None:
    """Same tensors, no neighbours that overflow, pixels unscaled into the first convolution, similar answers."""
    int8.convert(small_network, tmp_path / "int8.onnx", pixels)
    model, original = onnx.load(tmp_path / "int8.onnx"), onnx.load(small_network)
    assert list(model.graph.input) == list(original.graph.input)
    assert list(model.graph.output) == list(original.graph.output)
    assert model.ir_version <= 10
    graph = Graph(model)
    assert not graph.of_type("Div", "Relu")
    quantise = next(node for node in graph.of_type("QuantizeLinear") if node.input[0] == graph.only("Sub").output[0])
    assert (graph.constant(quantise.input[1]), graph.constant(quantise.input[2])) == (1, 0)
    weights = [values for values in graph.constants().values() if values.dtype == np.int8 and values.ndim == 4]
    assert len(weights) == 2
    for values in weights:
        rows = np.abs(values.astype(int))
        rows = np.pad(rows, ((0, 0), (0, rows.shape[1] % 2), (0, 0), (0, 0)))
        assert (rows[:, 0::2] + rows[:, 1::2]).max() <= 128
        assert rows.max() > 64
    probabilities, features = run(tmp_path / "int8.onnx", pixels)
    true_probabilities, true_features = run(small_network, pixels)
    assert np.abs(probabilities - true_probabilities).max() < 0.05
    assert np.abs(features - true_features).mean() < 0.05 * np.abs(true_features).mean()


def test_scales_of_a_channel_without_weights() -> None:
    """Pruned channels are all zero, and a scale of zero would make them NaN."""
    assert [float(scale) for scale in scales_of(np.zeros((2, 3, 1, 1), dtype=np.float32))] == [1, 1]


def test_correct_biases_makes_up_for_rounded_weights(
    small_network: Path, pixels: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On average over the images the features are nearer to the FP32 network's than without the correction."""
    errors = []
    for correction in (int8.correct_biases, lambda *_: None):
        monkeypatch.setattr(int8, "correct_biases", correction)
        int8.convert(small_network, tmp_path / "int8.onnx", pixels)
        error = run(tmp_path / "int8.onnx", pixels)[1].mean(0) - run(small_network, pixels)[1].mean(0)
        errors.append(float(np.abs(error).mean()))
    assert errors[0] < errors[1]


@pytest.mark.parametrize("last", ["Softmax", "Sigmoid"])
def test_fp16_keeps_the_contract(small_network: Path, pixels: np.ndarray, tmp_path: Path, last: str) -> None:
    """Inside are 16 bits only, outside the same tensors and answers."""
    changed = onnx.load(small_network)
    node = onnx.helper.make_node(last, changed.graph.node[-1].input, [PROBABILITIES], "last")
    changed.graph.node[-1].CopyFrom(node)
    onnx.save(changed, small_network)
    fp16.convert(small_network, tmp_path / "half.onnx", NO_PIXELS)
    model, original = onnx.load(tmp_path / "half.onnx"), onnx.load(small_network)
    assert list(model.graph.input) == list(original.graph.input)
    assert list(model.graph.output) == list(original.graph.output)
    assert np.dtype(np.float32) not in {values.dtype for values in Graph(model).constants().values()}
    for got, expected in zip(run(tmp_path / "half.onnx", pixels), run(small_network, pixels), strict=True):
        np.testing.assert_allclose(got, expected, rtol=2e-2, atol=2e-3)


def test_fp16_refuses_what_16_bits_cannot_hold(small_network: Path, tmp_path: Path) -> None:
    """A weight that would become infinite ends the build with its name."""
    model = onnx.load(small_network)
    Graph(model).set_constant("b2", np.full(8, 1e6, dtype=np.float32))
    onnx.save(model, small_network)
    with pytest.raises(BuildError, match="b2 contains values above 65504"):
        fp16.convert(small_network, tmp_path / "half.onnx", NO_PIXELS)
